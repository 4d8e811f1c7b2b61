"""Loss and gradients of tiles of pairs, without the pooled features: the inside of the fused part loss.

With the attention `a` of a pair, its mixed values `p` of all heads side by side, the output projection `W` and `b`,
and the text of unit norm `t`, the pooled feature is u = W p + b, and

    u . t = p . (W' t) + b . t                      W' t and b . t once a text
    |u|^2 = p . (W' W) p + 2 p . (W' b) + b . b     pooled form: W' W and W' b once in all
    |u|^2 = a . (V V') a + 2 a . (V b) + b . b      Gram form: V V' and V b once an image, V its values mapped by W

An empty slot is a key and a value of zeros. The two tile functions take no decision on data and loop over nothing:
each is one graph for torch.compile.
"""

from collections.abc import Iterator
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from caft.loss.sigmoid import pairwise_sigmoid

# Floor of a norm, as in FLAIR's and open_clip's losses.
EPS = 1e-12

# Pairs in a tile. On a CPU its temporaries should stay in the cache; on a GPU a tile should fill the device.
_PAIRS_ON_CPU = 2048
_PAIRS_ON_GPU = 16384


class FusedPairSum(torch.autograd.Function):
    """Summed loss of all pairs, and how many norms were clamped; gradients are ready after the forward pass.

    Called with whether the norm is by the Gram form; labels, (B, T), or (B, Q) with the index of the texts; and then
    what a tile takes, of all texts and images, in float32 or wider.
    """

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, gram: bool, labels: Tensor, index: Tensor | None, *arguments: Tensor
    ) -> tuple[Tensor, Tensor]:
        tile = gram_tile if gram else pooled_tile
        gradients = [torch.zeros_like(argument) for argument in arguments]
        total = labels.new_zeros(())
        clamped = torch.zeros((), dtype=torch.int64, device=labels.device)
        for rows, columns in _tiles(labels):
            texts: slice | Tensor = columns if index is None else index[rows, columns]
            shared: slice | EllipsisType = rows if gram else ...
            places = (texts,) * 3 + (rows,) * 2 + (shared,) * 2 + (...,) * 3
            portion = [argument[place] for argument, place in zip(arguments, places, strict=True)]
            loss, short, found = tile(labels[rows, columns], *portion)
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
        return None, None, None, *(gradient * outputs[0] for gradient in ctx.saved_tensors)


def _tiles(labels: Tensor) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each tile: some images with all their texts, or one image with some of its texts."""
    pairs = _PAIRS_ON_CPU if labels.device.type == "cpu" else _PAIRS_ON_GPU
    images, texts = labels.shape
    height, width = max(1, pairs // texts), min(pairs, texts)
    for row in range(0, images, height):
        for column in range(0, texts, width):
            yield slice(row, row + height), slice(column, column + width)


def pooled_tile(
    labels: Tensor,
    query: Tensor,
    moved: Tensor,
    offset: Tensor,
    key: Tensor,
    value: Tensor,
    quadratic: Tensor,
    linear: Tensor,
    constant: Tensor,
    scale: Tensor,
    bias: Tensor,
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Pairs of b images and Q texts, each image with the same texts or with its own, by the mixed values.

    Args:
        labels: +1 or -1, (b, Q).
        query: Scaled queries, (Q, H, e), or (b, Q, H, e) where each image has its own texts.
        moved: Texts of unit norm times the output projection, shaped as the queries.
        offset: Their products with its bias, (Q,) or (b, Q).
        key: Keys, (b, N, H, e).
        value: Values, (b, N, H, e).
        quadratic: W' W, (D, D).
        linear: W' b, (D,).
        constant: b . b, a scalar.
        scale: Factor of the cosine, a scalar.
        bias: Added to it, a scalar.

    Returns:
        The summed loss, the number of clamped norms, and the gradients of all arguments but the labels.
    """
    text = "qhe" if query.dim() == 3 else "bqhe"
    attention = torch.einsum(f"{text},bnhe->bhqn", query, key).softmax(-1)
    mixed = torch.einsum("bhqn,bnhe->bqhe", attention, value)
    flat, moved_flat = mixed.flatten(2), moved.flatten(-2)  # (b, Q, D)
    half = flat @ quadratic + linear  # half the gradient of |u|^2
    squared = (flat * (half + linear)).sum(-1) + constant
    dot = (flat * moved_flat).sum(-1) + offset
    loss, clamped, d_dot, d_squared, d_scale, d_bias = _from_products(dot, squared, scale, bias, labels)

    d_mixed = (d_dot[..., None] * moved_flat + 2 * d_squared[..., None] * half).unflatten(-1, mixed.shape[2:])
    weighted = d_squared[..., None] * flat
    d_attention = torch.einsum("bqhe,bnhe->bhqn", d_mixed, value)
    # The mean of d_attention under the attention, (b, H, Q, 1).
    mean = (mixed * d_mixed).sum(-1).transpose(1, 2)[..., None]
    d_logits = attention * (d_attention - mean)
    return loss, clamped, (
        torch.einsum(f"bhqn,bnhe->{text}", d_logits, key),
        torch.einsum(f"bq,bqhe->{text}", d_dot, mixed),
        d_dot.sum(0) if query.dim() == 3 else d_dot,
        torch.einsum(f"bhqn,{text}->bnhe", d_logits, query),
        torch.einsum("bhqn,bqhe->bnhe", attention, d_mixed),
        weighted.flatten(0, 1).T @ flat.flatten(0, 1),
        2 * weighted.sum((0, 1)),
        d_squared.sum(),
        d_scale,
        d_bias,
    )  # fmt: skip


def gram_tile(
    labels: Tensor,
    query: Tensor,
    moved: Tensor,
    offset: Tensor,
    key: Tensor,
    value: Tensor,
    quadratic: Tensor,
    linear: Tensor,
    constant: Tensor,
    scale: Tensor,
    bias: Tensor,
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """As `pooled_tile` by the attention, for fewer segments times heads than features.

    `quadratic` is V V', (b, H N, H N), and `linear` is V b, (b, H N), of each image.
    """
    text = "qhe" if query.dim() == 3 else "bqhe"
    attention = torch.einsum(f"{text},bnhe->bqhn", query, key).softmax(-1)
    product = torch.einsum(f"{text},bnhe->bqhn", moved, value)
    flat, product_flat, linear = attention.flatten(2), product.flatten(2), linear[:, None]  # (b, Q, H N)
    half = flat @ quadratic + linear
    squared = (flat * (half + linear)).sum(-1) + constant
    dot = (flat * product_flat).sum(-1) + offset
    loss, clamped, d_dot, d_squared, d_scale, d_bias = _from_products(dot, squared, scale, bias, labels)

    d_attention = d_dot[..., None] * product_flat + 2 * d_squared[..., None] * half
    d_attention = d_attention.unflatten(-1, attention.shape[2:])
    weighted = d_squared[..., None] * flat
    d_product = d_dot[..., None, None] * attention
    d_logits = attention * (d_attention - (attention * d_attention).sum(-1, keepdim=True))
    return loss, clamped, (
        torch.einsum(f"bqhn,bnhe->{text}", d_logits, key),
        torch.einsum(f"bqhn,bnhe->{text}", d_product, value),
        d_dot.sum(0) if query.dim() == 3 else d_dot,
        torch.einsum(f"bqhn,{text}->bnhe", d_logits, query),
        torch.einsum(f"bqhn,{text}->bnhe", d_product, moved),
        weighted.transpose(1, 2) @ flat,
        2 * weighted.sum(1),
        d_squared.sum(),
        d_scale,
        d_bias,
    )  # fmt: skip


def _from_products(
    dot: Tensor, squared: Tensor, scale: Tensor, bias: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """From u . t and |u|^2, (b, Q), to loss, clamped norms, and gradients of both products, scale and bias."""
    short = squared < EPS**2
    inverse = squared.clamp(min=EPS**2).rsqrt()
    # No cosine is beyond one but by rounding: of a squared norm that heads which cancel have made too small, even
    # negative. There it says nothing about the norm, and must not blow up the loss.
    raw = dot * inverse
    cosine = raw.clamp(-1, 1)
    logits = scale * cosine + bias
    d_logits = -labels * torch.sigmoid(-labels * logits)
    d_cosine = torch.where(raw.abs() > 1, 0.0, scale * d_logits)
    d_dot = d_cosine * inverse
    d_squared = torch.where(short, 0.0, -0.5 * d_dot * raw * inverse)
    loss = pairwise_sigmoid(logits, labels)
    return loss, short.sum(), d_dot, d_squared, (d_logits * cosine).sum(), d_logits.sum()
