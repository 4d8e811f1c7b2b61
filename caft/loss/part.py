"""The part-level loss (Eq. 8): each image asked by texts, compared with the same texts.

Of the two implementations, the naive one is the definition. The fused one never builds a pooled feature: see the
algebra in `caft.network.part_pairs`. It computes the gradients in the forward pass, tile by tile, and keeps only their
sums (`caft.loss.part_tiles`), so its memory does not grow with the number of pairs. Norms and projections run once per
text and once per image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from caft.loss.hierarchical import Features, Term
from caft.loss.labels import Pairs, owners, positive_pairs
from caft.loss.part_tiles import FusedPairSum
from caft.loss.sigmoid import pairwise_sigmoid
from caft.loss.softmax import softmax_pair_sum
from caft.network import gpu
from caft.network.part_pairs import EPS, PairImages, PairTexts, gram_norm, gram_pays, moved_texts, pooled_norm
from caft.network.text_pool import TextConditionedPool, attend


@dataclass(frozen=True)
class PartTerm(Term):
    """L_part = 1 / Z sum_i sum_(j,k in N_i) log(1 + exp(-y_ij (s_p <u_i<-jk, t_jk> + b_p))), Eq. 8.

    Z is B for all pairs. Sampled negatives, and their Z = B + K - 1, are those of each rank's block, as in FLAIR. The
    softmax form is the mean over images of each one among its texts.

    The sigmoid form also logs `clamped_pairs`, how many pooled features are shorter than the floor of their norm, 1e-12,
    an int64 scalar. More than a few mean that texts find no segment at all, or that heads cancel beyond what the
    precision can tell.

    Attributes:
        pool: Text-conditioned pooling.
        negatives: Draws the texts that each image is compared with, from B, K and the number of ranks, as
            `rank_blocks` does; None compares all pairs.
    """

    name = "part"
    pool: TextConditionedPool
    negatives: Callable[[int, int, int], Tensor] | None

    def __call__(self, features: Features) -> dict[str, Tensor]:  # noqa: D102
        tokens, texts = features.part, features.sub_captions
        assert tokens is not None and texts is not None
        images = len(tokens)
        count = len(texts.own) // images
        normaliser, index = images, None
        if self.negatives is not None:
            normaliser = images + count - 1
            index = gpu.sent(self.negatives(images, count, texts.ranks), tokens.device)
        positive = positive_pairs(owners(texts.all, count), images, texts.rank * images, index)
        pairs = Pairs(tokens, texts.all, positive, index)
        if self.form == "softmax":
            return {self.name: softmax_pair_sum(pairs, self.pool, self.temperature.scale) / images}
        total, clamped = fused_pair_sum(pairs, self.pool, *self.temperature)
        return {self.name: total / normaliser, "clamped_pairs": clamped}


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
    pairs = Pairs(tokens, texts, positive_pairs(owner, len(tokens), first_image, index), index)
    pair_sum = naive_pair_sum if implementation == "naive" else fused_pair_sum
    return pair_sum(pairs, pool, scale, bias)[0] / normaliser


def naive_pair_sum(pairs: Pairs, pool: TextConditionedPool, scale: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Summed loss and number of clamped pairs, by pooling every pair and holding it all."""
    tokens, texts, _, index = pairs
    labels = pairs.labels
    key, value = pool.project_tokens(tokens)
    query = pool.project_queries(texts)
    if index is not None:
        query, texts = query[index], texts[index]  # (B, Q, H, e), (B, Q, D)
    mixed, _ = attend(query, key, value)
    pooled = pool.out(mixed).to(labels.dtype)  # (B, Q, D)
    cosines = (F.normalize(pooled, dim=-1, eps=EPS) * F.normalize(texts.to(labels.dtype), dim=-1, eps=EPS)).sum(-1)
    clamped = (pooled.detach().norm(dim=-1) < EPS).sum()
    return pairwise_sigmoid(scale * cosines + bias, labels), clamped


def fused_pair_sum(pairs: Pairs, pool: TextConditionedPool, scale: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """`naive_pair_sum` by tiles; autograd differentiates what a text or an image brings to all its pairs."""
    tokens, texts, _, index = pairs
    labels = pairs.labels
    wide = labels.dtype
    projected = (pool.project_queries(texts), *pool.project_tokens(tokens))
    with torch.autocast(tokens.device.type, enabled=False):
        query, key, value = (tensor.to(wide) for tensor in projected)
        key, value = F.pad(key, (0, 0, 0, 0, 0, 1)), F.pad(value, (0, 0, 0, 0, 0, 1))  # (B, N + 1, H, e)
        weight, offset = pool.out.weight.to(wide), pool.out.bias.to(wide)
        unit = F.normalize(texts.to(wide), dim=-1, eps=EPS)
        moved = moved_texts(unit, weight, pool.heads)
        gram = gram_pays(pool, tokens.shape[1])
        quadratic, linear = gram_norm(value, weight, offset) if gram else pooled_norm(weight, offset)
        asking, asked = PairTexts(query, moved, unit @ offset), PairImages(key, value, quadratic, linear)
        scalars = offset @ offset, scale.to(wide), bias.to(wide)
        total, clamped = FusedPairSum.apply(labels, index, *asking, *asked, *scalars)
    return total, clamped
