"""Pieces of the training step one by one, forward and backward in half precision, in the forms that might gain."""

import copy
import statistics
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.gpu_steps import Setting
from benchmarks.step import texts_like_recaptions
from caft.loss import part_tiles
from caft.loss.labels import rank_blocks
from caft.loss.part import part_loss
from caft.network.caft import CAFT
from caft.network.text.encoder import Packed, can_pack, pack
from caft.network.vision.encoder import HierarchicalVisionEncoder
from caft.network.vision.sampling import farthest_points
from caft.train.compiled import fast_labels

# A piece made ready: a call runs it once.
Run = Callable[[], object]
# Packed tokens are filled up to a multiple of this where a graph is to have few shapes.
_PORTION = 2048


def all_pieces(given: Setting) -> Iterator[tuple[str, Callable[[], Run]]]:
    """Each piece by name, to be made ready."""
    torch.manual_seed(0)
    model = CAFT(given.model, given.recipe.chunks).to(given.device).train()
    assert isinstance(model.vision, HierarchicalVisionEncoder)
    yield from _texts(given, model)
    yield from _pictures(given, model)
    yield from _stages(given, model)
    yield from _losses(given, model)
    yield "optimizer", lambda: _optimizer(model)


def milliseconds(run: Run, device: torch.device, quick: bool) -> float:
    """Of one call, the median; the first calls, which compile, are not counted."""
    warm, count = (1, 1) if quick else (3, 10)
    for _ in range(warm):
        run()
    if device.type != "cuda":
        return 0.0
    taken = []
    for _ in range(count):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize(device)
        taken.append(start.elapsed_time(end))
    return statistics.median(taken)


def _both(function: Callable[..., Tensor], *inputs: Tensor) -> Run:
    """Forward and backward pass."""
    gradient: Tensor | None = None
    device = inputs[0].device

    def run() -> None:
        nonlocal gradient
        with torch.autocast(device.type, torch.bfloat16):
            found = function(*inputs)
        if gradient is None:
            gradient = torch.randn_like(found)
        found.backward(gradient)

    return run


def _texts(given: Setting, model: CAFT) -> Iterator[tuple[str, Callable[[], Run]]]:
    recipe, device = given.recipe, given.device
    tokens = texts_like_recaptions(recipe.batch, recipe.sub_captions, given.model.text.context, 0).flatten(0, 1)
    there = tokens.to(device)
    yield "texts by length", lambda: _both(copy.deepcopy(model.sub_caption), there)
    if device.type != "cuda" or not can_pack():
        return
    exact = pack(tokens)

    def packed(compiled: bool, filled: bool, stream: torch.dtype | None = None) -> Run:
        tower = copy.deepcopy(model.sub_caption)
        texts = Packed(*(part.to(device) for part in (_filled(exact) if filled else exact)))
        if compiled:
            setattr(tower, "through", torch.compile(tower.through, dynamic=not filled))  # noqa: B010

        def run(ids: Tensor) -> Tensor:
            hidden = tower.embedding(ids) + F.embedding(texts.positions, tower.positions)
            hidden = tower.through(hidden if stream is None else hidden.to(stream), texts.starts)
            return tower.norm(hidden.index_select(0, texts.ends)).index_select(0, texts.places)

        return _both(run, texts.ids)

    yield "texts packed", lambda: packed(False, False)
    yield "texts packed, compiled for any number", lambda: packed(True, False)
    yield "texts packed, compiled for portions", lambda: packed(True, True)
    yield "texts packed, compiled for portions, bf16 between blocks", lambda: packed(True, True, torch.bfloat16)


def _filled(packed: Packed) -> Packed:
    """Filled up with texts of padding, of which no feature is read."""
    missing = -len(packed.ids) % _PORTION
    ends = packed.starts[-1] + torch.arange(64, _PORTION + 64, 64, dtype=torch.int32).clamp(max=missing)
    return Packed(
        F.pad(packed.ids, (0, missing)),
        torch.cat([packed.positions, torch.arange(missing) % 64]),
        torch.cat([packed.starts, ends]),
        packed.ends,
        packed.places,
    )


def _pictures(given: Setting, model: CAFT) -> Iterator[tuple[str, Callable[[], Run]]]:
    device = given.device
    size = (given.recipe.batch, 3, given.model.image_size, given.model.image_size)
    pixels = torch.randint(256, size, dtype=torch.uint8, device=device)

    def stem(compiled: bool, searched: bool = False) -> Run:
        run = _both(torch.compile(copy.deepcopy(model).stem, dynamic=False) if compiled else model.stem, pixels)
        return _searched(run) if searched else run

    yield "stem", lambda: stem(False)
    yield "stem, compiled", lambda: stem(True)
    yield "stem, compiled, convolutions searched", lambda: stem(True, True)
    yield "superpixels", lambda: lambda: model.superpixel_labels(pixels)
    yield "superpixels folded, compiled, float32", lambda: _labels(model, None, pixels)
    yield "superpixels folded, compiled, fp16", lambda: _labels(model, torch.bfloat16, pixels)
    yield (
        "superpixels folded, compiled, fp16, convolutions searched",
        lambda: _searched(_labels(model, torch.bfloat16, pixels)),
    )


def _labels(model: CAFT, half: torch.dtype | None, pixels: Tensor) -> Run:
    labels = fast_labels(model, half)
    return lambda: labels(pixels)


def _searched(run: Run) -> Run:
    """With cuDNN's search for the fastest kernel."""

    def searching() -> None:
        with torch.backends.cudnn.flags(benchmark=True, allow_tf32=True):
            run()

    return searching


def _stages(given: Setting, model: CAFT) -> Iterator[tuple[str, Callable[[], Run]]]:
    images, device, width = given.recipe.batch, given.device, given.model.width
    vision = model.vision
    assert isinstance(vision, HierarchicalVisionEncoder)
    for number, tokens in enumerate(given.model.tokens):
        inputs = torch.randn(images, tokens + 1, width, device=device, requires_grad=True)
        for compiled in (False, True):

            def blocks(number: int = number, compiled: bool = compiled, inputs: Tensor = inputs) -> Run:
                stage = copy.deepcopy(vision.stages[number])
                if compiled:
                    stage.compile(dynamic=False)
                return _both(stage, inputs)

            yield f"blocks {number + 1}{', compiled' if compiled else ''}", blocks
    cls, tokens_ = (torch.randn(images, n, width, device=device) for n in (1, given.model.tokens[0]))
    tokens_.requires_grad_()
    count = given.model.tokens[1]

    def pooling(compiled: bool) -> Run:
        pool: Any = copy.deepcopy(vision.pools[0])
        picks = torch.arange(count, device=device).expand(images, -1)
        group = torch.compile(pool.group, dynamic=False) if compiled else pool.group

        def both(cls: Tensor, tokens: Tensor) -> Tensor:
            found = group(cls, tokens, picks)
            return torch.cat([found.cls, found.groups], dim=1)

        return _both(both, cls, tokens_)

    yield "pooling 1", lambda: pooling(False)
    yield "pooling 1, compiled", lambda: pooling(True)
    points = tokens_.detach()
    yield "sampling 1", lambda: lambda: farthest_points(points, count)
    yield "sampling 1, in plain torch", lambda: _plainly(lambda: farthest_points(points, count))


def _plainly(run: Run) -> Run:
    def plain() -> None:
        with mock.patch("caft.network.vision.sampling._HAS_TRITON", False):
            run()

    return plain


def _losses(given: Setting, model: CAFT) -> Iterator[tuple[str, Callable[[], Run]]]:
    recipe, device, sizes = given.recipe, given.device, given.model
    if model.pool is None:
        return
    pool = model.pool
    images, count = recipe.batch, recipe.sub_captions
    segments = torch.randn(images, sizes.tokens[sizes.part_stage - 1], sizes.embed_dim, device=device)
    texts = torch.randn(images * count, sizes.embed_dim, device=device, requires_grad=True)
    segments.requires_grad_()
    owner = torch.arange(len(texts), device=device) // count
    index = rank_blocks(images, count, 1, 0, 0).to(device)
    one = torch.ones((), device=device)

    def loss(tokens: Tensor, texts: Tensor) -> Tensor:
        return part_loss(
            tokens, texts, owner, pool, one, one, index=index, normaliser=images + count - 1, negatives="sampled"
        )

    def compiled() -> Run:
        tile = torch.compile(part_tiles.tile_loss, dynamic=False)
        run = _both(loss, segments, texts)

        def inside() -> None:
            with mock.patch.object(part_tiles, "_tile", tile):
                run()

        return inside

    yield "part loss", lambda: _both(loss, segments, texts)
    yield "part loss, compiled", compiled


def _optimizer(model: nn.Module) -> Run:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-6, fused=True)
    for parameter in trained:
        parameter.grad = torch.full_like(parameter, 1e-3)

    def run() -> None:
        nn.utils.get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])
        optimizer.step()

    return run
