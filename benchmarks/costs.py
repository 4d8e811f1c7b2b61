"""Costs that measurements are compared with: each part of a model, pairs of the part loss, bytes between ranks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from caft.network.vision.superpixels import SFCN
from caft.params.models import ModelParams
from caft.train.cost import flops_of, forward_flops, model_of_shapes


@dataclass(frozen=True)
class Part:
    """Size and operations of one part of a model.

    Attributes:
        name: Place of the part in the model, as in the names of its weights.
        parameters: Numbers that are learnt; those of `superpixels` before this training.
        fixed: Numbers that are not learnt: the position encodings.
        flops: Operations of one forward pass on one of `unit`.
        unit: What one forward pass is over: "image", "text", "caption" or "pair".
    """

    name: str
    parameters: int
    fixed: int = 0
    flops: int = 0
    unit: str = "image"


def model_parts(sizes: ModelParams, chunks: int) -> list[Part]:
    """Every part of a model, in order, with M sub-captions (`chunks`) of a whole caption."""
    model, found = model_of_shapes(sizes, chunks), forward_flops(sizes, chunks)
    parameters: Counter[str] = Counter()
    fixed: Counter[str] = Counter()
    kept = model.state_dict()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name not in kept:
            fixed[_part(name)] += tensor.numel()
        elif isinstance(tensor, torch.nn.Parameter):
            parameters[_part(name)] += tensor.numel()
    flops = {name: flops_of(found, name) for name in parameters}
    if model.pool is not None:  # what its projections of texts and images leave is done for each pair
        flops["pool.out"] = flops_of(found, "pool") - sum(flops[f"pool.{name}"] for name in ("query", "key", "value"))
    units = {"sub_caption": "text", "sub_caption_projection": "text", "pool.query": "text", "pool.out": "pair"}
    units |= {"whole_caption": "caption", "whole_caption_projection": "caption"}
    result = []
    for name in dict.fromkeys([*parameters, *fixed]):
        # CAST samples without the matrix of distances, so it is shown apart.
        is_pool = name.startswith("vision.pools.")
        sampling = 2 * sizes.tokens[int(name.split(".")[2])] ** 2 * sizes.width if is_pool else 0
        work = flops.get(name, 0) - sampling
        result.append(Part(name, parameters[name], fixed[name], work, units.get(name, "image")))
        if is_pool:
            result.append(Part(f"{name}.sampling", 0, 0, sampling))
    return result


def _part(name: str) -> str:
    """The part that a weight belongs to."""
    words = name.split(".")
    depth = 1 if words[0] not in ("vision", "pool") else 3 if words[1] in ("stages", "pools") else 2
    return ".".join(words[:depth])


def superpixel_flops(widths: Sequence[int], image_size: int) -> int:
    """Operations of SFCN on one image, forward."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        SFCN(widths).eval()(torch.zeros(1, 3, image_size, image_size))
    return int(counter.get_total_flops())


def part_pair_flops(embed: int, segments: int, heads: int, fused: bool) -> tuple[int, int]:
    """Operations of the part loss on one pair, forward and backward, without what is done once for a text or an image.

    A pair mixes values by attention, twice 2 N D, and maps the result, 2 D D. The fused loss maps nothing, but multiplies
    by the matrix of the norm, D x D or H N x H N, and has the backward pass in its forward pass: four more products of
    N x D, and one for that matrix.
    """
    if not fused:
        forward = 4 * segments * embed + 2 * embed**2
        return forward, 2 * forward
    norm = min(embed, heads * segments)
    return 12 * segments * embed + 4 * norm**2, 0


@dataclass(frozen=True)
class Exchange:
    """Bytes that a rank receives from the others in one pass over the texts of a batch, and as many back as gradients.

    Attributes:
        unique: Each text of each rank once, sub-captions and whole captions: (R - 1) B (K + 1) D.
        ring: As FLAIR: each rank sends the selection of B + K - 1 texts of each image, in which most texts are repeated
            many times, and the texts themselves for its second term: (R - 1) (B (B + K - 1) + B K) D.
    """

    unique: int
    ring: int


def exchange(images: int, sub_captions: int, embed: int, ranks: int, number: int) -> Exchange:
    """Bytes that ranks exchange, for B images of a rank, K, D, R ranks, and the bytes of a number."""
    row = (ranks - 1) * embed * number
    selected = images * (images + sub_captions - 1)
    return Exchange(row * images * (sub_captions + 1), row * (selected + images * sub_captions))
