"""Loss and gradients of tiles of pairs, without the pooled features: the inside of the fused part loss.

The forward pass is the algebra of `caft.network.part_pairs`; here the empty slot has a value too. `tile_loss` takes no
decision on data and loops over nothing: it is one graph for torch.compile.
"""

from collections.abc import Callable, Iterator
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from caft.loss.sigmoid import pairwise_sigmoid
from caft.network.part_pairs import EPS, PairImages, PairTexts, pair_products

# Pairs in a tile. On a CPU its temporaries should stay in the cache; on a GPU a tile should fill the device.
_PAIRS_ON_CPU = 2048
_PAIRS_ON_GPU = 131072


class FusedPairSum(torch.autograd.Function):
    """Summed loss of all pairs, and how many norms were clamped; gradients are ready after the forward pass.

    Called with labels, (B, T), or (B, Q) with the index of the texts; and then, in float32 or wider, the tensors of
    `PairTexts` and `PairImages`, and b . b, scale and bias of the logits, scalars.
    """

    @staticmethod
    def forward(ctx: Any, labels: Tensor, index: Tensor | None, *inputs: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        is_gram = PairImages(*inputs[3:7]).is_gram
        gradients = [torch.zeros_like(tensor) for tensor in inputs]
        total = labels.new_zeros(())
        clamped = torch.zeros((), dtype=torch.int64, device=labels.device)
        for rows, columns in _tiles(labels):
            texts: slice | Tensor = columns if index is None else index[rows, columns]
            shared: slice | EllipsisType = rows if is_gram else ...
            places = (texts,) * 3 + (rows,) * 2 + (shared,) * 2 + (...,) * 3
            portion = [tensor[place] for tensor, place in zip(inputs, places, strict=True)]
            loss, short, found = _tile(
                labels[rows, columns], PairTexts(*portion[:3]), PairImages(*portion[3:7]), *portion[7:]
            )
            total += loss
            clamped += short
            for target, place, gradient in zip(gradients, places, found, strict=True):
                if isinstance(place, Tensor):
                    target.index_add_(0, place.flatten(), gradient.flatten(0, 1))
                else:
                    target[place] += gradient
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(clamped)
        return total, clamped

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        return None, None, *(gradient * outputs[0] for gradient in ctx.saved_tensors)


def _tiles(labels: Tensor) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each tile: some images with all their texts, or one image with some of its texts."""
    pairs = _PAIRS_ON_CPU if labels.device.type == "cpu" else _PAIRS_ON_GPU
    images, texts = labels.shape
    height, width = max(1, pairs // texts), min(pairs, texts)
    for row in range(0, images, height):
        for column in range(0, texts, width):
            yield slice(row, row + height), slice(column, column + width)


def tile_loss(
    labels: Tensor, texts: PairTexts, images: PairImages, constant: Tensor, scale: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Compares the pairs of a tile, whose labels are +1 or -1, (b, Q).

    Returns:
        The summed loss, the number of clamped norms, and the gradients of all arguments but the labels.
    """
    query, moved, offset = texts
    key, value, quadratic, linear = images
    attention, basis, against = pair_products(texts, images)
    if images.is_gram:
        linear = linear[:, None]
    half = basis @ quadratic + linear  # half the gradient of |u|^2
    squared = (basis * (half + linear)).sum(-1) + constant
    dot = (basis * against).sum(-1) + offset
    short = squared < EPS**2
    inverse = squared.clamp(min=EPS**2).rsqrt()
    # Only rounding makes a cosine larger than one: of a squared norm that heads which cancel have made too small, even
    # negative. There it says nothing about the norm, and must not blow up the loss.
    raw = dot * inverse
    cosine = raw.clamp(-1, 1)
    logits = scale * cosine + bias
    loss = pairwise_sigmoid(logits, labels)

    d_pairs = -labels * torch.sigmoid(-labels * logits)
    d_cosine = torch.where(raw.abs() > 1, 0.0, scale * d_pairs)
    d_dot = d_cosine * inverse
    d_squared = torch.where(short, 0.0, -0.5 * d_dot * raw * inverse)
    d_basis = d_dot[..., None] * against + 2 * d_squared[..., None] * half
    weighted = d_squared[..., None] * basis
    asked = "qhe" if query.dim() == 3 else "bqhe"
    if images.is_gram:
        places = "bqhn"
        d_attention = d_basis.unflatten(-1, attention.shape[2:])
        d_product = d_dot[..., None, None] * attention
        d_logits = attention * (d_attention - (attention * d_attention).sum(-1, keepdim=True))
        d_moved = torch.einsum(f"bqhn,bnhe->{asked}", d_product, value)
        d_value = torch.einsum(f"bqhn,{asked}->bnhe", d_product, moved)
        d_quadratic, d_linear = weighted.transpose(1, 2) @ basis, 2 * weighted.sum(1)
    else:
        places = "bhqn"
        mixed, d_mixed = basis.unflatten(-1, value.shape[2:]), d_basis.unflatten(-1, value.shape[2:])
        d_attention = torch.einsum("bqhe,bnhe->bhqn", d_mixed, value)
        # The mean of d_attention under the attention, (b, H, Q, 1).
        mean = (mixed * d_mixed).sum(-1).transpose(1, 2)[..., None]
        d_logits = attention * (d_attention - mean)
        d_moved = torch.einsum(f"bq,bqhe->{asked}", d_dot, mixed)
        d_value = torch.einsum("bhqn,bqhe->bnhe", attention, d_mixed)
        d_quadratic = weighted.flatten(0, 1).T @ basis.flatten(0, 1)
        d_linear = 2 * weighted.sum((0, 1))
    return loss, short.sum(), (
        torch.einsum(f"{places},bnhe->{asked}", d_logits, key),
        d_moved,
        d_dot.sum(0) if query.dim() == 3 else d_dot,
        torch.einsum(f"{places},{asked}->bnhe", d_logits, query),
        d_value,
        d_quadratic,
        d_linear,
        d_squared.sum(),
        (d_pairs * cosine).sum(),
        d_pairs.sum(),
    )  # fmt: skip


# What the sum calls.
_tile: Callable[..., tuple[Tensor, Tensor, tuple[Tensor, ...]]] = tile_loss


def compile_tiles() -> None:
    """Has `tile_loss` compiled, from its next use in this process on."""
    global _tile
    _tile = torch.compile(tile_loss, dynamic=False)
