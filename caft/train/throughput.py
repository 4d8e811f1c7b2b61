"""What a model costs, by formula: parameters and floating point operations of each of its parts.

An operation is a multiplication or an addition, so a matrix product of (n, k) and (k, m) has 2 n k m. Products and
convolutions count; norms, activations, softmax and gathers do not. Attention counts all pairs of positions, causal or
not, as torch's own counter does.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from caft.params import ModelParams


@dataclass(frozen=True)
class Count:
    """Size and work of one part of the model.

    Attributes:
        name: Where the part lies in the model, as in the names of its weights.
        parameters: Numbers that are learnt; for `superpixels`, before this training.
        fixed: Numbers that are not: the position encodings.
        flops: Of one forward pass on one of `unit`.
        unit: What one forward pass is over: "image", "text", "caption" or "pair".
    """

    name: str
    parameters: int
    fixed: int = 0
    flops: int = 0
    unit: str = "image"


@dataclass(frozen=True)
class SampleCount:
    """Work on one sample of training, forward, in operations.

    Attributes:
        superpixels: Of the frozen network, which has no backward pass.
        vision: Of the image tower.
        text: Of the text tower: all sub-captions, and the whole caption.
        pooling: Of the text-conditioned pooling with all texts that ask the image.
    """

    superpixels: int
    vision: int
    text: int
    pooling: int

    @property
    def trained_step(self) -> int:
        """Forward and backward: a backward pass does twice the work of its forward pass."""
        return self.superpixels + 3 * (self.vision + self.text + self.pooling)


def counts(model: ModelParams, chunks: int, text_length: int | None = None) -> list[Count]:
    """Every part of the model, in order.

    Args:
        model: Sizes.
        chunks: Sub-captions of a whole caption, M.
        text_length: Tokens of a text; None for the longest.
    """
    text, length = model.text, text_length if text_length is not None else model.text.context
    embed, segments = model.embed_dim, model.tokens[model.part_stage - 1]
    whole_text = _Block(text.width, 4)
    adapter = _linear(text.width, text.adapter) + _linear(text.adapter, text.width) + text.width
    return [
        Count("superpixels", *_superpixels(model)),
        *_vision(model),
        Count("part_norm", 2 * model.width),
        Count("part_projection", model.width * embed, 0, 2 * segments * model.width * embed),
        Count("whole_norm", 2 * model.width),
        Count("whole_projection", model.width * embed, 0, 2 * model.width * embed),
        Count(
            "sub_caption",
            (text.vocabulary + text.context) * text.width + text.sub_layers * whole_text.parameters + 2 * text.width,
            0,
            text.sub_layers * whole_text.flops(length),
            "text",
        ),
        Count("sub_caption_projection", text.width * embed, 0, 2 * text.width * embed, "text"),
        Count(
            "whole_caption",
            adapter + (chunks + 2) * text.width + text.whole_layers * whole_text.parameters + 2 * text.width,
            0,
            4 * chunks * text.width * text.adapter + text.whole_layers * whole_text.flops(chunks + 1),
            "caption",
        ),
        Count("whole_caption_projection", text.width * embed, 0, 2 * text.width * embed, "caption"),
        *_pooling(embed, segments),
        *(Count(f"{level}_{name}", 1) for name in ("log_scale", "bias") for level in ("part", "whole")),
    ]


def sample_count(
    model: ModelParams, chunks: int, sub_captions: int, asked: int, text_length: int | None = None
) -> SampleCount:
    """Work on one image with its texts.

    Args:
        model: Sizes.
        chunks: M.
        sub_captions: K.
        asked: Texts that the image is asked by in the part loss, of all ranks.
        text_length: Tokens of a text; None for the longest.
    """
    work: dict[str, int] = {}
    times = {"image": 1, "text": sub_captions, "caption": 1, "pair": asked}
    for part in counts(model, chunks, text_length):
        root = part.name.split(".")[0]
        tower = {"superpixels": "superpixels", "pool": "pooling"}.get(root, "text" if "caption" in root else "vision")
        work[tower] = work.get(tower, 0) + times[part.unit] * part.flops
    return SampleCount(**work)


def _vision(model: ModelParams) -> Iterator[Count]:
    """Stem, stages and poolings; the sampling's matrix of distances stands apart, since CAST does without one."""
    width, stride = model.width, 1
    stem_parameters = stem_flops = 0
    previous = 3
    for channels, step in zip(model.stem.channels, model.stem.strides, strict=True):
        stride *= step
        kernel = 9 * previous * channels
        stem_parameters += kernel + 2 * channels
        stem_flops += 2 * kernel * (model.image_size // stride) ** 2
        previous = channels
    places = (model.image_size // stride) ** 2
    yield Count("vision.cls", width)
    yield Count("vision.positions", 0, places * width)
    yield Count(
        "vision.stem", stem_parameters + _linear(previous, width), 0, stem_flops + 2 * places * previous * width
    )
    block = _Block(width, model.mlp_ratio)
    for number, (depth, tokens) in enumerate(zip(model.blocks, model.tokens, strict=True)):
        yield Count(f"vision.stages.{number}", depth * block.parameters, 0, depth * block.flops(tokens + 1))
    for number, (tokens, groups) in enumerate(zip(model.tokens[:-1], model.tokens[1:], strict=True)):
        yield Count(f"vision.pools.{number}", *_graph_pool(width, tokens, groups))
        yield Count(f"vision.pools.{number}.sampling", 0, 0, 2 * tokens * tokens * width)


class _Block:
    """A transformer block.

    Args:
        width: Of the tokens.
        ratio: Hidden width of the MLP over the width.
    """

    def __init__(self, width: int, ratio: int) -> None:
        self.width, self.ratio = width, ratio
        mlp = _linear(width, ratio * width) + _linear(ratio * width, width)
        self.parameters = 4 * width + _attention(width) + mlp

    def flops(self, tokens: int) -> int:
        """Forward, on one sequence."""
        return _attention_flops(self.width, tokens) + 4 * tokens * self.ratio * self.width**2


def _graph_pool(width: int, tokens: int, groups: int) -> tuple[int, int, int]:
    """Parameters, fixed numbers and work of one pooling, without the sampling."""
    hidden = 4 * width
    parameters = (
        3 * width + _attention(width) + 2 * width + _linear(width, hidden) + 2 * hidden + _linear(hidden, width)
    )
    expand, reduce = 2 * (1 + tokens) * width * hidden, 2 * (1 + groups) * hidden * width
    similarity, means = 2 * tokens * groups * width, 2 * tokens * groups * hidden
    return parameters, 0, _attention_flops(width, tokens) + expand + reduce + similarity + means


def _superpixels(model: ModelParams) -> tuple[int, int, int]:
    """Parameters, fixed numbers and work of SFCN on one image."""
    widths = model.superpixels.widths
    parameters = flops = 0

    def convolution(inputs: int, outputs: int, side: int) -> None:
        nonlocal parameters, flops
        parameters += 9 * inputs * outputs + 2 * outputs  # with its batch norm
        flops += 2 * 9 * inputs * outputs * side**2

    previous = 3
    for level, width in enumerate(widths):
        side = model.image_size // 2**level
        convolution(previous, width, side)
        convolution(width, width, side)
        previous = width
    for level, (fine, coarse) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        side = model.image_size // 2**level
        parameters += 16 * coarse * fine + fine
        flops += 2 * 16 * coarse * fine * (side // 2) ** 2  # each input place spreads over 4 x 4 outputs
        convolution(2 * fine, fine, side)
    parameters += 9 * widths[0] * 9 + 9
    flops += 2 * 9 * widths[0] * 9 * model.image_size**2
    return parameters, 0, flops


def _pooling(embed: int, segments: int) -> Iterator[Count]:
    """Text-conditioned pooling: each projection once an image or a text, attention and output once a pair."""
    square = 2 * embed * embed
    yield Count("pool.query", _linear(embed, embed), 0, square, "text")
    yield Count("pool.key", _linear(embed, embed), 0, segments * square)
    yield Count("pool.value", _linear(embed, embed), 0, segments * square)
    yield Count("pool.out", _linear(embed, embed), 0, 4 * segments * embed + square, "pair")
    for name in ("query", "key", "value"):
        yield Count(f"pool.norm_{name}", 2 * embed)


def _linear(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def _attention(width: int) -> int:
    return _linear(width, 3 * width) + _linear(width, width)


def _attention_flops(width: int, tokens: int) -> int:
    """Projections of queries, keys, values and output, then the two products over all pairs of positions."""
    return 8 * tokens * width**2 + 4 * tokens**2 * width
