"""What a model costs: floating point operations of a training step, and memory.

An operation is a multiplication or an addition, so a matrix product of (n, k) and (k, m) has 2 n k m. Products and
convolutions count; norms, activations, softmax and gathers do not. Attention counts all pairs of positions, causal or
not. Operations are counted by torch on a model without numbers, so what is added to a tower is counted by itself.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from caft.network.caft import CAFT
from caft.network.vision.encoder import HierarchicalVisionEncoder
from caft.params.models import ModelParams, TextSizes
from caft.params.parts import named
from caft.params.recipes import RecipeParams


@dataclass(frozen=True)
class SampleCost:
    """Operations of a forward pass on one sample of training.

    `superpixels` is the frozen network, without a backward pass; `text` has all sub-captions and the whole caption;
    `pooling` is with all texts that are compared with the image.
    """

    superpixels: int
    vision: int
    text: int
    pooling: int

    @property
    def trained_step(self) -> int:
        """Forward and backward: a backward pass does twice the work of its forward pass."""
        return self.superpixels + 3 * (self.vision + self.text + self.pooling)


def model_of_shapes(sizes: ModelParams, chunks: int) -> CAFT:
    """A model whose weights have shapes and no numbers, which takes neither time nor memory; `chunks` is M."""
    with torch.device("meta"):
        return CAFT(sizes, chunks).eval()


@functools.lru_cache
def forward_flops(sizes: ModelParams, chunks: int) -> Mapping[str, int]:
    """Operations by module name, such as `vision.stem`, of one image, one text of full length and one caption.

    The text-conditioned pooling takes one image and one text. See `flops_of` for modules whose parts alone were called.
    """
    everything = _Everything(model_of_shapes(sizes, chunks))
    counter = FlopCounterMode(display=False)
    # The counter does not know the fused attention of CPUs, but the products of the plain one.
    with FakeTensorMode(), counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        weights = [*everything.named_parameters(), *everything.named_buffers()]
        functional_call(everything, {name: torch.empty(w.shape, dtype=w.dtype) for name, w in weights}, ())
    prefix = f"{type(everything).__name__}.model."
    found = {name: sum(flops.values()) for name, flops in counter.get_flop_counts().items()}
    return {name.removeprefix(prefix): flops for name, flops in found.items() if name.startswith(prefix)}


def flops_of(found: Mapping[str, int], module: str) -> int:
    """Operations of a module in what `forward_flops` found: its own, or where only its parts were called, theirs."""
    if module in found:
        return found[module]
    parts = {".".join(name.split(".")[: module.count(".") + 2]) for name in found if name.startswith(f"{module}.")}
    return sum(flops_of(found, part) for part in parts)


class _Everything(nn.Module):
    """Runs every part of a model once."""

    def __init__(self, model: CAFT) -> None:
        super().__init__()
        self.model = model

    def forward(self) -> None:
        model, sizes = self.model, self.model.config
        pixels = torch.zeros(1, 3, sizes.image_size, sizes.image_size, dtype=torch.uint8)
        labels = model.superpixel_labels(pixels)
        features = model.stem(pixels)
        if isinstance(model.vision, HierarchicalVisionEncoder):
            # Not `model.group`, which counts the pixels of each superpixel: that takes numbers.
            cls = torch.zeros(1, 1, sizes.width)
            stages = [torch.zeros(1, tokens, sizes.width) for tokens in sizes.tokens]
            for blocks, tokens in zip(model.vision.stages, stages, strict=True):
                blocks(torch.cat([cls, tokens], dim=1))
            for pool, tokens in zip(model.vision.pools, stages[:-1], strict=True):
                pool(cls, tokens)
        else:
            stages = model.group(features, labels).stages
        model.project_whole(torch.zeros(1, sizes.width))
        model.sub_caption.blocks(torch.zeros(1, sizes.text.context, sizes.text.width))
        if model.whole_caption_projection is not None:
            chunks = len(model.whole_caption.positions) - 1 if model.whole_caption is not None else 1
            model.combine(torch.zeros(1, chunks, sizes.text.width))
        if model.pool is not None:
            texts = model.project_sub_captions(torch.zeros(1, 1, sizes.text.width))
            model.pool(texts, model.project_part(stages[sizes.part_stage - 1]))


def sample_cost(
    model: ModelParams, chunks: int, sub_captions: int, asked: int, text_length: int | None = None
) -> SampleCost:
    """Operations on one image with its texts.

    Args:
        model: Sizes of the model.
        chunks: M.
        sub_captions: K.
        asked: Texts of all ranks that the image is compared with in the part loss.
        text_length: Tokens of a text; None for the longest.
    """
    found = forward_flops(model, chunks)

    def flops(*modules: str) -> int:
        return sum(flops_of(found, module) for module in modules)

    per_text = flops("sub_caption", "sub_caption_projection")
    if text_length is not None:
        per_text += text_flops(model.text, [text_length]) - text_flops(model.text, [model.text.context])
    per_image = flops("pool.key", "pool.value")
    per_pair = flops("pool") - flops("pool.query") - per_image
    return SampleCost(
        superpixels=flops("superpixels"),
        vision=flops("vision", "part_projection", "whole_projection"),
        text=sub_captions * per_text + flops("whole_caption", "whole_caption_projection"),
        pooling=sub_captions * flops("pool.query") + per_image + asked * per_pair,
    )


def text_flops(sizes: TextSizes, lengths: Iterable[int]) -> int:
    """Forward operations of the sub-caption transformer on texts of which so many positions are encoded.

    The one formula here, since the lengths of texts differ from step to step: projections and MLP, 24 L W^2, and the
    two products of attention, 4 L^2 W.
    """
    return sizes.sub_layers * sum(24 * length * sizes.width**2 + 4 * length**2 * sizes.width for length in lengths)


def step_flops(model: ModelParams, recipe: RecipeParams, images: int, ranks: int, lengths: Sequence[int]) -> int:
    """Operations of one of several ranks in a training step on so many images, forward and backward.

    `lengths` are the positions that are encoded of each of its texts.
    """
    count = recipe.sub_captions if model.grounding is not None else recipe.chunks
    texts = images * count
    asked = ranks * (images + count - 1 if recipe.negatives == "sampled" else texts)
    work = sample_cost(model, recipe.chunks, count, asked)
    full = text_flops(model.text, [model.text.context] * texts)
    kept = work.superpixels if recipe.crop_scale is None else 0
    return images * (work.trained_step - kept) - 3 * (full - text_flops(model.text, lengths))


@dataclass(frozen=True)
class Memory:
    """Memory of a rank at the end of a forward pass, in bytes.

    `state` is weights, gradients, both moments of AdamW, DDP's buckets, and the weights' average if there is one; `images`
    and `texts` are the activations of the two towers that the backward pass needs.
    """

    state: int
    images: int
    texts: int

    @property
    def total(self) -> int:
        """All together; the loss and temporary buffers come on top."""
        return self.state + self.images + self.texts


def memory(
    model: ModelParams,
    recipe: RecipeParams,
    batch: int,
    ranks: int,
    number: int,
    text_length: int,
    texts_at_once: int | None = None,
    micro_batch: int | None = None,
    recomputed: Sequence[int] = (),
) -> Memory:
    """An estimate of a rank's memory in training. It counts the large parts only, so it is rather too low than too high.

    Args:
        model: Sizes of the model.
        recipe: M, K, what is frozen, and whether the weights are averaged.
        batch: Images of the rank.
        ranks: Ranks of the job.
        number: Bytes of an activation: 2 in half precision, 4 in float32.
        text_length: Tokens of a text, on average.
        texts_at_once: Tokens of texts that are encoded at once, at most; None for no limit.
        micro_batch: Images of the rank at once; None for all. The stem takes all in any case, but what it holds then
            and what a micro-batch holds are not there at the same time: the larger counts.
        recomputed: Stages of the image tower, from 1, of which the inputs alone are kept up to their backward pass.
    """
    at_once = min(batch, micro_batch or batch)
    network = model_of_shapes(model, recipe.chunks)
    network.superpixels = None  # is not trained, and small
    frozen = [part for name in recipe.freeze for part in named(name, model)]
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    trained = sum(size for name, size in sizes.items() if not any(part.holds(name) for part in frozen))
    held = sum(sizes.values()) + sum(buffer.numel() for buffer in network.buffers())
    state = 4 * trained * (3 + (ranks > 1)) + 4 * held * (1 + (recipe.weights_ema is not None))
    text_tokens = at_once * recipe.sub_captions * text_length
    if texts_at_once is not None:
        text_tokens = min(text_tokens, texts_at_once)
    texts = text_tokens * model.text.sub_layers * _kept(model.text.width, 4)
    if model.text.whole_layers is not None:
        texts += at_once * (recipe.chunks + 1) * model.text.whole_layers * _kept(model.text.width, 4)
    stages = [
        at_once * blocks * (tokens + 1) * _kept(model.width, model.mlp_ratio)
        for blocks, tokens in zip(model.blocks, model.tokens, strict=True)
    ]
    kept = list(stages)
    for number in recomputed:
        kept[number - 1] = at_once * (model.tokens[number - 1] + 1) * model.width
    # A stage that is computed again is there when those behind it are gone.
    images = max([sum(kept), *(sum(kept[: number - 1]) + stages[number - 1] for number in recomputed)])
    stem = 0
    if model.stem is not None:
        side = model.image_size
        for channels, stride in zip(model.stem.channels, model.stem.strides, strict=True):
            side //= stride
            stem += 2 * batch * channels * side**2  # of each convolution what its norm and its ReLU take
    if at_once < batch:  # the stem's result is kept throughout, and its gradient beside it
        features = 2 * batch * model.width * side**2 if model.stem is not None else 0
        return Memory(state, number * (features + max(stem, images + texts) - texts), number * texts)
    return Memory(state, number * (images + stem), number * texts)


def _kept(width: int, ratio: int) -> int:
    """Numbers that a transformer block keeps of a token: inputs of two norms, four products and the two of the MLP."""
    return width * (9 + 2 * ratio)
