"""Exact ranks by blends of both levels, for a part of the part scores: those that some rank depends on.

The rank of a match is the number of candidates that score at least as much (`caft.eval.scores.retrieval`). So a pair
matters to no rank if it cannot reach the match of its caption, nor the best match of its image. What its part score would
have to be for that follows from its whole score, weight by weight. Chunks of its caption are scored one by one, those first
that fit few images, and as soon as the rest cannot reach what is needed, at a cosine of one each, the pair is dropped. Ranks,
ties and recalls of the blends asked for are those of all pairs; of other blends, they are not.

Near ties. Matches are scored in float64 and rounded once. A pair that comes so close to one that float32's error, by the
model stated there, might decide is scored that way too; so equal pairs tie, and no other pairs do but within the rounding of
the blend itself.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from caft.errors import DataError
from caft.model.part_chunks import ChunkCosines, PairCosines
from caft.model.protocols import RetrievalNetwork
from caft.model.scores import blend, part_scores

logger = logging.getLogger(__name__)

# Numbers that a caption brings to an image, times captions, from which dropping pairs can pay: below, an image is scored
# with all of them in the time that its preparation takes.
_LEAST_WORK = 2**21
_SAMPLE = 48  # images of the trial
_MOST_SHARE = 0.5  # of the pairs: above, all are scored, since one alone takes longer than among all
_SHOWN = 8  # images that show which chunk of a caption tells most
# No cosine is below it: the part score of pairs that were dropped.
_FLOOR = -2.0

Blends = Sequence[tuple[float, str]]


class Needed(NamedTuple):
    """Part scores by which ranks are found.

    Attributes:
        scores: As `part_scores` gives them where a rank depends on them, else below any, (B, Q).
        pairs: Number of pairs whose part score was computed, besides the matches; a chunk of C is 1 / C of a pair.
    """

    scores: Tensor
    pairs: float

    @property
    def share(self) -> float:
        """Of all pairs; 1 where all were scored."""
        return self.pairs / self.scores.numel()


@torch.no_grad()
def needed_part_scores(
    network: RetrievalNetwork,
    whole: Tensor,
    part: Tensor,
    texts: Tensor,
    blends: Blends,
    truth: ArrayLike | None = None,
) -> Needed:
    """Part scores of all pairs that the ranks of the matches depend on.

    Small sets are scored whole, and those where a trial on a sample of the images says that little can be dropped, as with
    features that were not trained.

    Args:
        network: The model.
        whole: Whole-level logits, (B, Q).
        part: Segments of the images, (B, N, D).
        texts: Chunk features of the captions, (Q, C, D).
        blends: Weight and space, as in `blend`, of each ranking that is wanted; (1, "logit") is the part score itself.
        truth: Image of each caption, (Q,); None: caption j belongs to image j.

    Raises:
        DataError: The model has no part level.
    """
    if network.pool is None:
        raise DataError("the model has no part level, so it has no part scores")
    images, captions = whole.shape
    owner = torch.arange(captions) if truth is None else torch.as_tensor(np.asarray(truth)).long()
    if captions * texts.shape[1] * texts.shape[2] >= _LEAST_WORK and images > _SAMPLE:
        sample = torch.arange(_SAMPLE) * images // _SAMPLE
        mine = torch.isin(owner, sample).nonzero()[:, 0]
        some, its = whole[sample][:, mine], torch.searchsorted(sample, owner[mine])
        share = _needed(network, some, part[sample], texts[mine], blends, its).share
        if share <= _MOST_SHARE:
            found = _needed(network, whole, part, texts, blends, owner)
            logger.info("part scores of %.2f %% of %d pairs prove the ranks", 100 * found.share, whole.numel())
            return found
        logger.info("all %d pairs are scored: on a sample, ranks needed %.0f %%", whole.numel(), 100 * share)
    return Needed(part_scores(network, part, texts), whole.numel())


def _needed(
    network: RetrievalNetwork, whole: Tensor, part: Tensor, texts: Tensor, blends: Blends, owner: Tensor
) -> Needed:
    assert network.pool is not None
    device, chunks = network.device, texts.shape[1]
    levels = _Blends(network, blends)
    single = PairCosines(network.pool)
    order = owner.argsort(stable=True)
    ends = torch.bincount(owner, minlength=len(part)).cumsum(0).tolist()
    mine = [order[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    match = torch.empty(len(texts))
    for segments, own in zip(part, mine, strict=True):
        match[own] = single.of(segments, texts[own])
    matched = levels.scores(whole[owner, torch.arange(len(owner))], match)  # of the captions, by blend, (n, Q)
    scores = levels.part_logit(torch.full(whole.shape, _FLOOR))
    computed = 0  # cosines of a chunk
    with torch.autocast(device.type, enabled=False):
        chunk_cosines = ChunkCosines(network.pool, texts.to(device))
        chunk_cosines.reorder(_telling_first(chunk_cosines, part))
        for row, (segments, own) in enumerate(zip(part, mine, strict=True)):
            # The part cosines that reach the match of the caption, and that of the image, by blend, (n, Q).
            wanted = [levels.wanted(found, whole[row]) for found in (matched, matched[:, own].amax(1, keepdim=True))]
            least_wanted = torch.minimum(*wanted).amin(0)
            least_wanted[own] = torch.inf
            left = (least_wanted <= 1 + levels.slack).nonzero()[:, 0]
            image = chunk_cosines.prepared(segments) if len(left) else None
            total, error = torch.zeros(len(left)), torch.zeros(len(left))
            for chunk in range(chunks):
                if image is None or not len(left):
                    break
                computed += len(left)
                found, wrong = (tensor.cpu() for tensor in chunk_cosines.of_chunk(image, left.to(device), chunk))
                total, error = total + found / chunks, error + wrong / chunks
                reach = total + (chunks - 1 - chunk) / chunks + error + levels.slack
                kept = ~(reach < least_wanted[left])
                left, total, error = left[kept], total[kept], error[kept]
            if len(left):
                margin = error + levels.slack
                close = torch.stack([~((total - found[:, left]).abs() > margin).all(0) for found in wanted]).any(0)
                total[close] = single.of(segments, texts[left[close]])
                scores[row, left] = levels.part_logit(total)
            scores[row, own] = levels.part_logit(match[own])
    return Needed(scores, computed / chunks)


def _telling_first(cosines: ChunkCosines, part: Tensor) -> Tensor:
    """Order of each caption's chunks, (Q, C): first those that fit few images, by some of the images."""
    captions = torch.arange(len(cosines.texts.offset), device=cosines.constant.device)
    fits = torch.zeros(len(captions), cosines.chunks, device=captions.device)
    for segments in part[:: max(1, len(part) // _SHOWN)][:_SHOWN]:
        image = cosines.prepared(segments)
        fits += torch.stack([cosines.of_chunk(image, captions, c)[0] for c in range(cosines.chunks)], dim=1)
    return fits.argsort(1).cpu()


class _Blends:
    """Blends that depend on the part score, as numbers: (1 - w) whole + f cosine."""

    def __init__(self, network: RetrievalNetwork, blends: Blends) -> None:
        self.network, self.blends = network, [(weight, space) for weight, space in blends if weight > 0]
        scale, bias = (float(number) for number in network.temperature("part"))
        self.scale, self.bias = float(np.exp(scale)), bias
        whole_scale, whole_bias = (float(number) for number in network.temperature("whole"))
        factors = [weight * (self.scale if space == "logit" else 1.0) for weight, space in self.blends]
        self.factor = torch.tensor(factors, dtype=torch.float64)[:, None]
        # Of the logits and of their blend, which a cosine may differ by: eight roundings of the largest number.
        largest = self.scale + abs(bias) + np.exp(whole_scale) + abs(whole_bias)
        smallest = (
            min(weight for weight, _ in self.blends) * min(self.scale, np.exp(whole_scale)) if self.blends else 1.0
        )
        self.slack = float(2**-21 * largest / smallest)

    def part_logit(self, cosines: Tensor) -> Tensor:
        scale, bias = (number.cpu() for number in self.network.temperature("part"))
        return scale.exp() * cosines + bias

    def scores(self, whole: Tensor, cosines: Tensor) -> Tensor:
        """Blends of whole logits and part cosines (K,): (n, K)."""
        part = self.part_logit(cosines)
        return torch.stack([blend(self.network, whole, part, weight, space) for weight, space in self.blends])

    def wanted(self, scores: Tensor, whole: Tensor) -> Tensor:
        """Part cosines by which pairs of whole logits (Q,) reach scores (n, Q) or (n, 1), (n, Q) in float64."""
        return (scores - self.scores(whole, torch.zeros(len(whole)))).double() / self.factor
