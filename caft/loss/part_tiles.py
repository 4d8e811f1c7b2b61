"""Loss and gradients of tiles of pairs, without the pooled features: the inside of the fused part loss.

The forward pass is the algebra of `caft.network.part_pairs`, whose names these functions use; here the empty slot has a
value too, of zeros. `tile_loss` takes no decision on data and loops over nothing: it is one graph for torch.compile.
"""

from collections.abc import Iterator
from types import EllipsisType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from caft.loss.sigmoid import pairwise_sigmoid
from caft.network.part_pairs import EPS, pair_products

# Pairs in a tile. On a CPU its temporaries should stay in the cache; on a GPU a tile should fill the device.
_PAIRS_ON_CPU = 2048
_PAIRS_ON_GPU = 16384


class PairInputs(NamedTuple):
    """What b images and Q texts bring to their pairs, in float32 or wider.

    Attributes:
        query: Scaled queries, (Q, H, e), or (b, Q, H, e) where each image has its own texts.
        moved: W' t, shaped as the queries.
        offset: b . t, (Q,) or (b, Q).
        key: Keys, (b, N, H, e), the empty slot last.
        value: Values, likewise.
        quadratic: W' W, (D, D); in the Gram form V V' of each image, (b, H N, H N).
        linear: W' b, (D,); in the Gram form V b of each image, (b, H N).
        constant: b . b, a scalar.
        scale: Factor of the cosine, a scalar.
        bias: Added to it, a scalar.
    """

    query: Tensor
    moved: Tensor
    offset: Tensor
    key: Tensor
    value: Tensor
    quadratic: Tensor
    linear: Tensor
    constant: Tensor
    scale: Tensor
    bias: Tensor


class TileLoss(NamedTuple):
    """The summed loss of a tile, the number of clamped norms, and the gradient of each of its inputs."""

    loss: Tensor
    clamped: Tensor
    gradients: PairInputs


class FusedPairSum(torch.autograd.Function):
    """Summed loss of all pairs, and how many norms were clamped; gradients are ready after the forward pass.

    Called with whether the norm is by the Gram form; labels, (B, T), or (B, Q) with the index of the texts; and then
    the `PairInputs` of all texts and images.
    """

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, gram: bool, labels: Tensor, index: Tensor | None, *inputs: Tensor
    ) -> tuple[Tensor, Tensor]:
        gradients = [torch.zeros_like(tensor) for tensor in inputs]
        total = labels.new_zeros(())
        clamped = torch.zeros((), dtype=torch.int64, device=labels.device)
        for rows, columns in _tiles(labels):
            texts: slice | Tensor = columns if index is None else index[rows, columns]
            shared: slice | EllipsisType = rows if gram else ...
            places = (texts,) * 3 + (rows,) * 2 + (shared,) * 2 + (...,) * 3
            portion = PairInputs(*(tensor[place] for tensor, place in zip(inputs, places, strict=True)))
            found = tile_loss(gram, labels[rows, columns], portion)
            total += found.loss
            clamped += found.clamped
            for target, place, gradient in zip(gradients, places, found.gradients, strict=True):
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
        return None, None, None, *(gradient * outputs[0] for gradient in ctx.saved_tensors)


def _tiles(labels: Tensor) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each tile: some images with all their texts, or one image with some of its texts."""
    pairs = _PAIRS_ON_CPU if labels.device.type == "cpu" else _PAIRS_ON_GPU
    images, texts = labels.shape
    height, width = max(1, pairs // texts), min(pairs, texts)
    for row in range(0, images, height):
        for column in range(0, texts, width):
            yield slice(row, row + height), slice(column, column + width)


def tile_loss(gram: bool, labels: Tensor, inputs: PairInputs) -> TileLoss:
    """Loss of the pairs of a tile.

    Args:
        gram: Gram form, else pooled form.
        labels: +1 or -1, (b, Q).
        inputs: Of these images and texts.
    """
    query, moved, offset, key, value, quadratic, linear, constant, scale, bias = inputs
    attention, basis, against = pair_products(gram, query, moved, key, value)
    if gram:
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
    if gram:
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
    gradients = PairInputs(
        query=torch.einsum(f"{places},bnhe->{asked}", d_logits, key),
        moved=d_moved,
        offset=d_dot.sum(0) if query.dim() == 3 else d_dot,
        key=torch.einsum(f"{places},{asked}->bnhe", d_logits, query),
        value=d_value,
        quadratic=d_quadratic,
        linear=d_linear,
        constant=d_squared.sum(),
        scale=(d_pairs * cosine).sum(),
        bias=d_pairs.sum(),
    )
    return TileLoss(loss, short.sum(), gradients)
