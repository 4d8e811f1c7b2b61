"""The part-level loss (Eq. 8): each image asked by texts, compared with the same texts.

Of the two forms, the naive one is the definition. The fused one takes the images a few at a time, computes the
gradients of each portion in the forward pass and keeps only their sums, so its memory does not grow with the number
of pairs.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from caft.grounding import TextConditionedPool, attend
from caft.loss.sigmoid import pairwise_sigmoid

# Pairs whose pooled features the fused form holds at once.
_PAIRS_AT_ONCE = 16384


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
    if (index is None) != (negatives == "all"):
        raise ValueError(
            f"part_loss: negatives is '{negatives}', so index must {'not ' * (negatives == 'all')}be given"
        )
    images = torch.arange(first_image, first_image + len(tokens), device=tokens.device)[:, None]
    owners = owner[None] if index is None else owner[index]  # (1, T) or (B, Q)
    labels = torch.where(owners == images, 1.0, -1.0)  # (B, T) or (B, Q)
    key, value = pool.project_tokens(tokens)
    arguments = (
        pool.project_queries(texts), texts, key, value, pool.out.weight, pool.out.bias, scale, bias
    )  # fmt: skip
    if implementation == "naive":
        total = _pair_sum(*arguments, labels, index)
    else:
        total = _FusedPairSum.apply(labels, index, *arguments)
    return total / normaliser


def _pair_sum(
    query: Tensor,
    texts: Tensor,
    key: Tensor,
    value: Tensor,
    weight: Tensor,
    offset: Tensor,
    scale: Tensor,
    bias: Tensor,
    labels: Tensor,
    index: Tensor | None,
) -> Tensor:
    """Summed loss of the images whose keys and values are given; queries and texts once per text."""
    if index is not None:
        query, texts = query[index], texts[index]  # (B, Q, H, e), (B, Q, D)
    mixed, _ = attend(query, key, value)
    pooled = F.linear(mixed, weight, offset)  # (B, Q, D)
    wide = torch.promote_types(pooled.dtype, torch.float32)
    cosines = (F.normalize(pooled.to(wide), dim=-1) * F.normalize(texts.to(wide), dim=-1)).sum(-1)
    return pairwise_sigmoid(scale * cosines + bias, labels)


class _FusedPairSum(torch.autograd.Function):
    """`_pair_sum` with the gradients taken portion by portion in the forward pass."""

    @staticmethod
    def forward(ctx: Any, labels: Tensor, index: Tensor | None, *arguments: Tensor) -> Tensor:  # noqa: D102
        needed = [argument.requires_grad for argument in arguments]
        shared = [argument.detach() for argument in arguments]
        gradients = [
            torch.zeros_like(argument) if need else None for argument, need in zip(shared, needed, strict=True)
        ]
        total = torch.zeros((), dtype=torch.promote_types(shared[0].dtype, torch.float32), device=labels.device)
        step = max(1, _PAIRS_AT_ONCE // labels.shape[1])
        for start in range(0, len(labels), step):
            rows = slice(start, start + step)
            portion = [a[rows] if place in (2, 3) else a for place, a in enumerate(shared)]  # keys and values
            with torch.enable_grad():
                leaves = [a.detach().requires_grad_(need) for a, need in zip(portion, needed, strict=True)]
                loss = _pair_sum(*leaves, labels=labels[rows], index=None if index is None else index[rows])  # type: ignore[misc]
            total += loss.detach()
            if any(needed):
                wanted = [place for place, need in enumerate(needed) if need]
                found = torch.autograd.grad(loss, [leaves[place] for place in wanted])
                for place, gradient in zip(wanted, found, strict=True):
                    target = gradients[place]
                    assert target is not None
                    (target[rows] if place in (2, 3) else target).add_(gradient)
        ctx.save_for_backward(*(g for g in gradients if g is not None))
        ctx.needed = needed
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        saved = iter(ctx.saved_tensors)
        factor = outputs[0]
        return None, None, *(next(saved) * factor if need else None for need in ctx.needed)
