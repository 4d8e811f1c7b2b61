"""What a model costs, by formula: parameters and floating point operations of each of its parts.

An operation is a multiplication or an addition, so a matrix product of (n, k) and (k, m) has 2 n k m. Products and
convolutions count; norms, activations, softmax and gathers do not. Attention counts all pairs of positions, causal or
not, as torch's own counter does.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from caft.params import ModelParams, RecipeParams, TextSizes


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
    length = text_length if text_length is not None else model.text.context
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
    work = dict.fromkeys(("superpixels", "vision", "text", "pooling"), 0)
    times = {"image": 1, "text": sub_captions, "caption": 1, "pair": asked}
    for part in counts(model, chunks, text_length):
        root = part.name.split(".")[0]
        tower = {"superpixels": "superpixels", "pool": "pooling"}.get(root, "text" if "caption" in root else "vision")
        work[tower] += times[part.unit] * part.flops
    return SampleCount(**work)


def text_flops(sizes: TextSizes, lengths: Iterable[int]) -> int:
    """Forward work of the sub-caption transformer on texts of which so many positions are encoded."""
    block = _Block(sizes.width, 4)
    return sizes.sub_layers * sum(block.flops(length) for length in lengths)


def step_flops(model: ModelParams, recipe: RecipeParams, images: int, ranks: int, lengths: Sequence[int]) -> int:
    """Work of one rank in a training step, forward and backward, with texts of the lengths that are encoded.

    Args:
        model: Sizes.
        recipe: M, K, which pairs, and whether superpixels are computed in each step.
        images: Of the rank.
        ranks: Of the job.
        lengths: Positions of each text of the rank that are encoded.
    """
    count = recipe.sub_captions if model.grounding is not None else recipe.chunks
    texts = images * count
    asked = ranks * (images + count - 1 if recipe.negatives == "sampled" else texts)
    work = sample_count(model, recipe.chunks, count, asked)
    full = text_flops(model.text, [model.text.context] * texts)
    cached = work.superpixels if recipe.crop_scale is None else 0
    return images * (work.trained_step - cached) - 3 * (full - text_flops(model.text, lengths))


def superpixel_flops(widths: Sequence[int], image_size: int) -> int:
    """Forward work of SFCN on one image."""
    return _superpixels(widths, image_size)[2]


def part_pair_flops(embed: int, segments: int, heads: int, fused: bool) -> tuple[int, int]:
    """Work of the part loss on one pair, forward and backward, without what is done once a text or an image.

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
        ring: As FLAIR: each rank sends the selection of B + K - 1 texts of each image, in which most texts come again
            and again, and the texts themselves for its second term: (R - 1) (B (B + K - 1) + B K) D.
    """

    unique: int
    ring: int


def exchange(images: int, sub_captions: int, embed: int, ranks: int, number: int) -> Exchange:
    """What is exchanged between ranks.

    Args:
        images: Of a rank, B.
        sub_captions: K.
        embed: D.
        ranks: R.
        number: Bytes of a number.
    """
    row = (ranks - 1) * embed * number
    selected = images * (images + sub_captions - 1)
    return Exchange(row * images * (sub_captions + 1), row * (selected + images * sub_captions))


@dataclass(frozen=True)
class Memory:
    """What a rank holds at the end of a forward pass, in bytes.

    Attributes:
        state: Weights, gradients, both moments of AdamW, and DDP's buckets.
        images: Activations of the image tower that the backward pass needs.
        texts: Those of the text tower.
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
) -> Memory:
    """An estimate of what a rank holds in training: the large parts alone, so rather too little than too much.

    Args:
        model: Sizes.
        recipe: M and K.
        batch: Images of the rank.
        ranks: Of the job.
        number: Bytes of an activation: 2 in half precision, 4 in float32.
        text_length: Tokens of a text, on average.
        texts_at_once: Tokens of texts beyond which these are taken in portions; None for no limit.
        micro_batch: Images of the rank at once; None for all. The stem takes all in any case, but what it holds then
            and what a micro-batch holds are not there at the same time: the larger counts.
    """
    at_once = min(batch, micro_batch or batch)
    chunks = recipe.chunks
    parts = counts(model, chunks)
    trained = sum(part.parameters for part in parts if part.name != "superpixels")
    state = 4 * trained * (4 + (ranks > 1)) + 4 * sum(part.fixed for part in parts)
    ratio = 4
    text_tokens = at_once * recipe.sub_captions * text_length
    if texts_at_once is not None:
        text_tokens = min(text_tokens, texts_at_once)
    texts = text_tokens * model.text.sub_layers * _kept(model.text.width, ratio)
    if model.text.whole_layers is not None:
        texts += at_once * (chunks + 1) * model.text.whole_layers * _kept(model.text.width, ratio)
    images = at_once * sum(
        blocks * (tokens + 1) * _kept(model.width, model.mlp_ratio)
        for blocks, tokens in zip(model.blocks, model.tokens, strict=True)
    )
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
