"""What the components of a step should take, by formula: operations, bytes, and from these seconds.

The rates come from probes: layers of each kind at other sizes than those of the model whose step is predicted.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.costs import model_parts, part_pair_flops, superpixel_flops
from benchmarks.measuring import times
from caft.loss.part import part_loss
from caft.network.layers import TransformerBlock
from caft.network.text_pool import TextConditionedPool
from caft.network.vision.encoder import ConvStem
from caft.network.vision.graph_pool import GraphPool
from caft.network.vision.sampling import farthest_points
from caft.network.vision.superpixels import SFCN
from caft.params.models import ModelParams
from caft.params.recipes import RecipeParams
from caft.train.cost import text_flops


@dataclass(frozen=True)
class Work:
    """Of one component in a step of one rank.

    Attributes:
        kind: Of the probe that tells its rate.
        forward: Floating point operations; a fused loss has its backward pass in them.
        backward: Floating point operations.
        moved: Bytes read and written at the least: weights and activations, each once a pass.
    """

    kind: str
    forward: float
    backward: float
    moved: float = 0.0


def step_work(
    model: ModelParams, recipe: RecipeParams, images: int, lengths: Tensor, fused: bool, size: int
) -> dict[str, Work]:
    """Work of every component.

    Args:
        model: Sizes.
        recipe: K, M and which pairs.
        images: B, of the only rank.
        lengths: Positions of each text that are encoded, (texts,).
        fused: Whether the part loss is.
        size: Bytes of a number.
    """
    parts = {part.name: part for part in model_parts(model, recipe.chunks)}
    work: dict[str, Work] = {}

    def add(name: str, kind: str, forward: float, moved: float, backward: float | None = None) -> None:
        """Adds to a component; unless told, its backward pass takes twice the operations and the bytes."""
        before = work.get(name, Work(kind, 0, 0))
        passes = 3 if backward is None else 1
        backward = 2 * forward if backward is None else backward
        work[name] = Work(kind, before.forward + forward, before.backward + backward, before.moved + passes * moved)

    def blocks(stage: int, name: str) -> None:
        moved = _passes(width, model.mlp_ratio) * (model.tokens[stage] + 1) * model.blocks[stage] * images * size
        add(f"blocks {stage + 1}", "block", of(name), moved + size * parts[name].parameters)

    def of(name: str) -> float:
        return images * float(parts[name].flops)

    width = model.width
    if model.stem is not None and model.superpixels is not None:
        place = model.image_size**2
        levels = model.superpixels.widths
        maps = sum(4 * c * place / 4**level for level, c in enumerate(levels))
        add("superpixels", "sfcn", of("superpixels"), size * images * 2 * maps, backward=0)
        stem, side = 0.0, model.image_size
        for channels, stride in zip(model.stem.channels, model.stem.strides, strict=True):
            side //= stride
            stem += 6 * channels * side**2
        add("stem", "stem", of("vision.stem"), size * images * (stem + 2 * width * side**2))
        add("superpixel tokens", "copy", 0, size * images * width * (2 * side**2 + 2 * model.tokens[0]))
        for number in range(len(model.tokens)):
            blocks(number, f"vision.stages.{number}")
        for number, tokens in enumerate(model.tokens[:-1]):
            name = f"vision.pools.{number}"
            add("pooling", "pool", of(name), size * (images * tokens * width * 24 + parts[name].parameters))
            reads = 4.0 * images * (tokens * (tokens + 3 * model.tokens[number + 1]) + 4 * tokens * width)
            add("sampling", "sampling", of(f"{name}.sampling"), reads, backward=0)
    else:
        add("stem", "stem", of("vision.patches"), size * images * 2 * width * model.tokens[0])
        blocks(0, "vision.blocks")
    text = model.text
    carried = size * _passes(text.width, 4) * float(lengths.sum()) * text.sub_layers
    add("text", "block", float(text_flops(text, lengths.tolist())), carried + size * parts["sub_caption"].parameters)
    if "whole_caption" in parts:
        carried = _passes(text.width, 4) * images * (recipe.chunks + 1) * (text.whole_layers or 0)
        add("text", "block", of("whole_caption"), size * (carried + parts["whole_caption"].parameters))
    if model.grounding is not None:
        asked = images + recipe.sub_captions - 1 if recipe.negatives == "sampled" else images * recipe.sub_captions
        segments = model.tokens[model.part_stage - 1]
        once = images * recipe.sub_captions * parts["pool.query"].flops + of("pool.key") + of("pool.value")
        pairs = images * asked
        pair_forward, pair_backward = part_pair_flops(model.embed_dim, segments, model.grounding.heads, fused)
        tensors = size * pairs * (6 * model.embed_dim + 4 * segments * model.grounding.heads)
        add("part loss", "pairs", once, tensors)
        add("part loss", "pairs", pairs * pair_forward, 0, pairs * pair_backward)
    cosines = 2.0 * images * images * model.embed_dim
    if recipe.loss.whole:
        add("whole loss", "copy", cosines, 0)
    if recipe.loss.part_cls:
        add("whole loss", "copy", cosines * recipe.sub_captions, 0)
    trained = sum(part.parameters for part in parts.values() if part.name != "superpixels")
    # Gradient norm, then weights, gradients and two moments read, and all but the gradients written, in float32.
    work["optimizer"] = Work("optimizer", 14.0 * trained, 0, 4.0 * trained * 8)
    return work


def _passes(width: int, ratio: int) -> int:
    """Numbers that a block reads and writes of a token: each of what it keeps twice."""
    return 2 * width * (9 + 2 * ratio)


@dataclass(frozen=True)
class Rate:
    """Operations a second of one kind of layer, or bytes for one that moves memory."""

    forward: float
    backward: float


def seconds(work: Work, rates: dict[str, Rate]) -> tuple[float, float]:
    """Predicted seconds, forward and backward."""
    rate = rates[work.kind]
    if work.kind in ("copy", "optimizer"):
        third = work.moved / 3 if work.kind == "copy" else work.moved
        return third / rate.forward, (2 * third / rate.backward if work.kind == "copy" else 0.0)
    return work.forward / rate.forward, work.backward / rate.backward if work.backward else 0.0


def probe(device: torch.device) -> dict[str, Rate]:
    """Measures the rate of each kind at sizes that no model of the settings has; forward under autograd."""
    torch.manual_seed(0)
    rates: dict[str, Rate] = {}
    block = TransformerBlock(640, 10, 4).to(device)
    tokens = torch.randn(24, 72, 640, device=device, requires_grad=True)
    work = 24 * (8 * 72 * 640**2 + 4 * 72**2 * 640 + 16 * 72 * 640**2)
    rates["block"] = _rate(lambda: block(tokens), work, 2 * work)
    stem = ConvStem([80, 160, 320], [2, 2, 2], 320).to(device)
    pictures = torch.randn(4, 3, 160, 160, device=device)
    work = 4 * 2 * (9 * 3 * 80 * 80**2 + 9 * 80 * 160 * 40**2 + 9 * 160 * 320 * 20**2 + 320 * 320 * 20**2)
    rates["stem"] = _rate(lambda: stem(pictures), work, 2 * work)
    pool = GraphPool(640, 10, 48).to(device)
    picks = torch.arange(48, device=device).expand(16, 48)
    cls, grouped = torch.randn(16, 1, 640, device=device), torch.randn(16, 144, 640, device=device, requires_grad=True)
    attention = 8 * 144 * 640**2 + 4 * 144**2 * 640
    work = 16 * (attention + 8 * 145 * 640**2 + 8 * 49 * 640**2 + 2 * 144 * 48 * 640 * 5)
    rates["pool"] = _rate(lambda: pool.group(cls, grouped, picks).groups, work, 2 * work)
    asking = TextConditionedPool(384, 6).to(device)
    segments = torch.randn(24, 64, 384, device=device, requires_grad=True)
    texts = torch.randn(40, 384, device=device, requires_grad=True)
    owner = torch.arange(40, device=device)
    one = torch.ones((), device=device)

    def pairs() -> Tensor:
        return part_loss(segments, texts, owner, asking, one, one, normaliser=1, negatives="all")

    forward, _ = part_pair_flops(384, 64, 6, True)
    once = 2 * 384**2 * (40 + 2 * 24 * 64)
    rates["pairs"] = _rate(pairs, 24 * 40 * forward + once, 2 * once)
    rates |= _probe_without_gradient(device)
    return rates


def _probe_without_gradient(device: torch.device) -> dict[str, Rate]:
    network = SFCN((12, 24, 48, 96, 192)).to(device).eval()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pictures = torch.randn(4, 3, 160, 160, device=device).contiguous(memory_format=torch.channels_last)
    points = torch.randn(16, 144, 640, device=device)
    weights = [torch.randn(1024, 1024, device=device, requires_grad=True) for _ in range(8)]
    optimizer = torch.optim.AdamW(weights, fused=True)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    table = torch.randn(4096, 4096, device=device)

    def adam() -> None:
        nn.utils.clip_grad_norm_(weights, float("inf"))
        optimizer.step()

    def network_pass() -> None:
        with torch.no_grad():
            network(pictures)

    amounts: dict[str, tuple[Callable[[], object], float]] = {
        "sfcn": (network_pass, 4.0 * superpixel_flops((12, 24, 48, 96, 192), 160)),
        "sampling": (lambda: farthest_points(points, 48), 16.0 * 2 * 144 * 144 * 640),
        "optimizer": (adam, 4.0 * 8 * 8 * 1024**2),
        "copy": (lambda: table + 1, 2.0 * table.numel() * 4),
    }
    taken = times({name: run for name, (run, _) in amounts.items()}, 3, device)
    rates = {name: amount / taken[name].least for name, (_, amount) in amounts.items()}
    return {name: Rate(rate, rate) for name, rate in rates.items()}


def _rate(forward: Callable[[], Tensor], forward_work: float, backward_work: float) -> Rate:
    device = forward().device

    def both() -> None:
        forward().sum().backward()

    taken = times({"forward": forward, "both": both}, 3, device)
    backward = max(taken["both"].least - taken["forward"].least, 1e-9)
    return Rate(forward_work / taken["forward"].least, backward_work / backward)
