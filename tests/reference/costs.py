"""Parameters and operations of each part of a model by formula: the reference for what torch counts."""

from collections.abc import Iterator, Sequence

from benchmarks.costs import Part as Count
from caft.params import ModelParams


def counts(model: ModelParams, chunks: int) -> list[Count]:
    """Every part of a model."""
    length = model.text.context
    has_part, has_whole = model.grounding is not None, model.levels == "separate"
    levels = [level for level, there in (("part", has_part), ("whole", has_whole)) if there]
    segments = model.tokens[model.part_stage - 1]
    projected = {"part": segments if has_whole else segments + 1, "whole": 1}  # the class token is the last stage's
    square = model.width * model.embed_dim
    found = list(_flat_vision(model)) if model.patch is not None else list(_vision(model))
    if model.superpixels is not None:
        found.insert(0, Count("superpixels", *_superpixels(model.superpixels.widths, model.image_size)))
    for level in levels:
        found.append(Count(f"{level}_norm", 2 * model.width))
        found.append(Count(f"{level}_projection", square, 0, 2 * projected[level] * square))
    found += _text(model, chunks, length, has_part)
    if has_part:
        found += _pooling(model.embed_dim, segments)
    return found + [Count(f"{level}_{name}", 1) for name in ("log_scale", "bias") for level in levels]


def _text(model: ModelParams, chunks: int, length: int, has_part: bool) -> Iterator[Count]:
    """Both text transformers, or the one of a flat text tower, and their projections."""
    text, projection = model.text, model.text.width * model.embed_dim
    block = _Block(text.width, 4)
    yield Count(
        "sub_caption",
        (text.vocabulary + text.context) * text.width + text.sub_layers * block.parameters + 2 * text.width,
        0,
        text.sub_layers * block.flops(length),
        "text",
    )
    if has_part:
        yield Count("sub_caption_projection", projection, 0, 2 * projection, "text")
    if text.whole_layers is not None and text.adapter is not None:
        adapter = _linear(text.width, text.adapter) + _linear(text.adapter, text.width) + text.width
        yield Count(
            "whole_caption",
            adapter + (chunks + 2) * text.width + text.whole_layers * block.parameters + 2 * text.width,
            0,
            4 * chunks * text.width * text.adapter + text.whole_layers * block.flops(chunks + 1),
            "caption",
        )
    if text.whole_layers is not None or not has_part:
        yield Count("whole_caption_projection", projection, 0, 2 * projection, "caption")


def _vision(model: ModelParams) -> Iterator[Count]:
    """Stem, stages and poolings; the sampling's matrix of distances stands apart, since CAST does without one."""
    assert model.stem is not None
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


def _flat_vision(model: ModelParams) -> Iterator[Count]:
    """A plain ViT; its position encodings are learnt."""
    assert model.patch is not None
    width, [patches] = model.width, model.tokens
    patch = 3 * model.patch**2 * width
    block = _Block(width, model.mlp_ratio)
    yield Count("vision.cls", width)
    yield Count("vision.positions", (1 + patches) * width)
    yield Count("vision.patches", patch, 0, 2 * patches * patch)
    yield Count("vision.norm", 2 * width)
    yield Count("vision.blocks", model.blocks[0] * block.parameters, 0, model.blocks[0] * block.flops(patches + 1))


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


def _superpixels(widths: Sequence[int], image_size: int) -> tuple[int, int, int]:
    """Parameters, fixed numbers and work of SFCN on one image."""
    parameters = flops = 0

    def convolution(inputs: int, outputs: int, side: int) -> None:
        nonlocal parameters, flops
        parameters += 9 * inputs * outputs + 2 * outputs  # with its batch norm
        flops += 2 * 9 * inputs * outputs * side**2

    previous = 3
    for level, width in enumerate(widths):
        side = image_size // 2**level
        convolution(previous, width, side)
        convolution(width, width, side)
        previous = width
    for level, (fine, coarse) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        side = image_size // 2**level
        parameters += 16 * coarse * fine + fine
        flops += 2 * 16 * coarse * fine * (side // 2) ** 2  # each input place spreads over 4 x 4 outputs
        convolution(2 * fine, fine, side)
    parameters += 9 * widths[0] * 9 + 9
    flops += 2 * 9 * widths[0] * 9 * image_size**2
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
