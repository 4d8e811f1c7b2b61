"""The part-level loss (Eq. 8): each image asked by texts, compared with the same texts.

Of the two forms, the naive one is the definition. The fused one is the same algebra with no pooled feature ever
mapped by the output projection: between attention and cosine everything is linear, so the projection is taken to the
texts' side for the dot product, and into a matrix shared by all pairs, or by those of an image, for the norm
(caft/loss/part_tiles.py). It computes the gradients in the forward pass, tile by tile, and keeps only their sums, so
its memory does not grow with the number of pairs. Norms and projections run once a text and once an image.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from caft.loss.part_tiles import EPS, FusedPairSum
from caft.loss.sigmoid import pairwise_sigmoid
from caft.network.text_pool import TextConditionedPool, attend


class PartLoss(NamedTuple):
    """The loss and how sound its norms are.

    Attributes:
        loss: A scalar, float32 or wider.
        clamped: Pairs whose pooled feature is shorter than the floor of its norm, 1e-12: an int64 scalar. More than
            a few mean that texts find no segment at all, or that heads cancel beyond what the precision can tell.
    """

    loss: Tensor
    clamped: Tensor


def part_loss(
    tokens: Tensor,
    texts: Tensor,
    owner: Tensor,
    pool: TextConditionedPool,
    scale: Tensor,
    bias: Tensor,
    *,
    index: Tensor | None = None,
    first_image: int = 0,
    normaliser: float,
    negatives: Literal["sampled", "all"],
    implementation: Literal["naive", "fused"] = "fused",
) -> Tensor:
    """Sigmoid loss of text-conditioned image features against the texts that conditioned them.

    Args:
        tokens: Segments of this rank's images, (B, N, D).
        texts: Texts of all ranks, not normalised, (T, D).
        owner: Image of each text, counted over all ranks, (T,).
        pool: Text-conditioned pooling.
        scale: Factor of the cosine, exponentiated, a scalar.
        bias: Added to it, a scalar.
        index: For sampled negatives, the texts that each image is compared with, (B, Q).
        first_image: Number of the first image of this rank, counted over all ranks.
        normaliser: Z, which divides the sum: B + K - 1 for sampled negatives (FLAIR's), B for all.
        negatives: "sampled" takes the pairs of `index`, "all" every image with every text.
        implementation: "naive" or "fused"; values and gradients are equal.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: `index` is given for all pairs, or missing for sampled ones.
    """
    return counted_part_loss(
        tokens,
        texts,
        owner,
        pool,
        scale,
        bias,
        index=index,
        first_image=first_image,
        normaliser=normaliser,
        negatives=negatives,
        implementation=implementation,
    ).loss


def counted_part_loss(
    tokens: Tensor,
    texts: Tensor,
    owner: Tensor,
    pool: TextConditionedPool,
    scale: Tensor,
    bias: Tensor,
    *,
    index: Tensor | None = None,
    first_image: int = 0,
    normaliser: float,
    negatives: Literal["sampled", "all"],
    implementation: Literal["naive", "fused"] = "fused",
) -> PartLoss:
    """`part_loss` with the number of pairs whose norm was clamped, which costs nothing more."""
    if (index is None) != (negatives == "all"):
        raise ValueError(
            f"part_loss: negatives is '{negatives}', so index must {'not ' * (negatives == 'all')}be given"
        )
    images = torch.arange(first_image, first_image + len(tokens), device=tokens.device)[:, None]
    owners = owner[None] if index is None else owner[index]  # (1, T) or (B, Q)
    wide = torch.promote_types(torch.promote_types(tokens.dtype, texts.dtype), torch.float32)
    labels = torch.where(owners == images, 1.0, -1.0).to(wide)  # (B, T) or (B, Q)
    pair_sum = _naive_pair_sum if implementation == "naive" else _fused_pair_sum
    total, clamped = pair_sum(tokens, texts, pool, scale, bias, labels, index)
    return PartLoss(total / normaliser, clamped)


def _naive_pair_sum(
    tokens: Tensor,
    texts: Tensor,
    pool: TextConditionedPool,
    scale: Tensor,
    bias: Tensor,
    labels: Tensor,
    index: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Pools every pair and holds it all."""
    key, value = pool.project_tokens(tokens)
    query = pool.project_queries(texts)
    if index is not None:
        query, texts = query[index], texts[index]  # (B, Q, H, e), (B, Q, D)
    mixed, _ = attend(query, key, value, empty_slot=pool.empty_slot)
    pooled = pool.out(mixed).to(labels.dtype)  # (B, Q, D)
    cosines = (F.normalize(pooled, dim=-1, eps=EPS) * F.normalize(texts.to(labels.dtype), dim=-1, eps=EPS)).sum(-1)
    clamped = (pooled.detach().norm(dim=-1) < EPS).sum()
    return pairwise_sigmoid(scale * cosines + bias, labels), clamped


def _fused_pair_sum(
    tokens: Tensor,
    texts: Tensor,
    pool: TextConditionedPool,
    scale: Tensor,
    bias: Tensor,
    labels: Tensor,
    index: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Prepares what a text or an image brings to all its pairs; autograd differentiates this part."""
    wide = labels.dtype
    projected = (pool.project_queries(texts), *pool.project_tokens(tokens))
    with torch.autocast(tokens.device.type, enabled=False):
        query, key, value = (tensor.to(wide) for tensor in projected)
        if pool.empty_slot:
            key, value = F.pad(key, (0, 0, 0, 0, 0, 1)), F.pad(value, (0, 0, 0, 0, 0, 1))  # (B, N + 1, H, e)
        weight, offset = pool.out.weight.to(wide), pool.out.bias.to(wide)
        unit = F.normalize(texts.to(wide), dim=-1, eps=EPS)
        moved = (unit @ weight).unflatten(-1, (pool.heads, -1))  # (T, H, e)
        gram = pool.heads * tokens.shape[1] < texts.shape[1]
        if gram:
            # Segments of every head as the output projection maps them: pooled = attention @ mapped + offset.
            mapped = torch.einsum("bnhe,ohe->bhno", value, weight.unflatten(1, (pool.heads, -1))).flatten(1, 2)
            quadratic, linear = mapped @ mapped.transpose(1, 2), mapped @ offset  # (B, H N, H N), (B, H N)
        else:
            quadratic, linear = weight.T @ weight, weight.T @ offset  # (D, D), (D,)
        arguments = (
            query, moved, unit @ offset, key, value, quadratic, linear, offset @ offset, scale.to(wide), bias.to(wide)
        )  # fmt: skip
        total, clamped = FusedPairSum.apply(gram, labels, index, *arguments)
    return total, clamped
