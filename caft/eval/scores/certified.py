"""Exact ranks by blends of both levels, for a part of the part scores: those that some rank depends on.

The rank of a match is the number of candidates that score at least as much (`caft.eval.scores.retrieval`). So a pair
matters to no rank if it cannot reach the match of its caption, nor the best match of its image. What its part score would
have to be for that follows from its whole score, weight by weight. Chunks of its caption are scored one by one, those first
that fit few images, by a bound and then by their cosines, and as soon as the rest cannot reach what is needed, at a cosine
of one each, the pair is dropped (`caft.model.part_chunks`). Ranks, ties and recalls of the blends asked for are those of all
pairs; of other blends, they are not.

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
# A pair alone takes so much longer than one among all, and its bound so much of that, with 512 numbers and 8 heads.
_COST, _BOUND_COST = 1.4, 0.7
_MOST_COST = 0.7  # of that of all pairs: above, all are scored
_SHOWN = 8  # images that show which chunk of a caption tells most
# No cosine is below it: the part score of pairs that were dropped.
_FLOOR = -2.0

Blends = Sequence[tuple[float, str]]


class Needed(NamedTuple):
    """Part scores by which ranks are found.

    Attributes:
        scores: As `part_scores` gives them where a rank depends on them, else below any, (B, Q).
        pairs: Number of pairs whose part score was computed, besides the matches; a chunk of C is 1 / C of a pair.
        bounds: Number of pairs of which a bound of it was.
    """

    scores: Tensor
    pairs: float
    bounds: float = 0

    @property
    def share(self) -> float:
        """Of all pairs those that were looked at, by bound or score; 1 where all were scored."""
        return (self.pairs + self.bounds) / self.scores.numel()

    @property
    def cost(self) -> float:
        """Of all pairs, what takes as long when each is scored among all."""
        return (_COST * self.pairs + _BOUND_COST * self.bounds) / self.scores.numel()


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
    if not any(weight > 0 for weight, _ in blends):
        return Needed(torch.zeros(whole.shape), 0)
    owner = torch.arange(captions) if truth is None else torch.as_tensor(np.asarray(truth)).long()
    if captions * texts.shape[1] * texts.shape[2] >= _LEAST_WORK and images > _SAMPLE:
        sample = torch.arange(_SAMPLE) * images // _SAMPLE
        mine = torch.isin(owner, sample).nonzero()[:, 0]
        some, its = whole[sample][:, mine], torch.searchsorted(sample, owner[mine])
        trial = _needed(network, some, part[sample], texts[mine], blends, its)
        if trial.cost <= _MOST_COST:
            found = _needed(network, whole, part, texts, blends, owner)
            share, scored = 100 * found.share, 100 * found.pairs / whole.numel()
            logger.info("%.2f %% of %d pairs prove the ranks, scored %.2f %%", share, whole.numel(), scored)
            return found
        logger.info("all %d pairs are scored: on a sample, ranks needed %.0f %%", whole.numel(), 100 * trial.share)
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
    bounds = looks = 0  # of a chunk
    with torch.autocast(device.type, enabled=False):
        chunk_cosines = ChunkCosines(network.pool, texts.to(device))
        chunk_cosines.reorder(_telling_first(chunk_cosines, part))
        for row, (segments, own) in enumerate(zip(part, mine, strict=True)):
            best = matched[:, own].amax(1, keepdim=True)
            least_wanted = levels.wanted(torch.minimum(matched, best), whole[row]).amin(0)
            least_wanted[own] = torch.inf
            reached = chunk_cosines.reaching(segments, least_wanted - levels.slack)
            bounds, looks = bounds + reached.bounds, looks + reached.looks
            left, cosines = reached.captions, reached.cosines
            if len(left):
                margin = reached.errors + levels.slack
                wanted = [levels.wanted(found, whole[row, left]) for found in (matched[:, left], best)]
                close = torch.stack([~((cosines - found).abs() > margin).all(0) for found in wanted]).any(0)
                cosines[close] = single.of(segments, texts[left[close]])
                scores[row, left] = levels.part_logit(cosines)
            scores[row, own] = levels.part_logit(match[own])
    return Needed(scores, looks / chunks, bounds / chunks)


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
        self.network = network
        self.blends = [(weight, space) for weight, space in dict.fromkeys(blends) if weight > 0]
        scale, bias = (float(number) for number in network.temperature("part"))
        whole_scale, self.whole_bias = (float(number) for number in network.temperature("whole"))
        self.scale, whole_scale = float(np.exp(scale)), float(np.exp(whole_scale))
        # Of the part cosine and of the whole logit, by blend, (n, 1) in float64.
        factors = [
            (weight * self.scale, 1 - weight) if space == "logit" else (weight, (1 - weight) / whole_scale)
            for weight, space in self.blends
        ]
        self.factor, self.whole_factor = torch.tensor(factors, dtype=torch.float64).reshape(-1, 2).T[..., None]
        # Of the logits and of their blend, which a cosine may differ by: eight roundings of the largest number.
        largest = self.scale + abs(bias) + whole_scale + abs(self.whole_bias)
        smallest = min((weight for weight, _ in self.blends), default=1.0) * min(self.scale, whole_scale)
        self.slack = float(2**-21 * largest / smallest)

    def part_logit(self, cosines: Tensor) -> Tensor:
        scale, bias = (number.cpu() for number in self.network.temperature("part"))
        return scale.exp() * cosines + bias

    def scores(self, whole: Tensor, cosines: Tensor) -> Tensor:
        """Blends of whole logits and part cosines (K,): (n, K)."""
        part = self.part_logit(cosines)
        return torch.stack([blend(self.network, whole, part, weight, space) for weight, space in self.blends])

    def wanted(self, scores: Tensor, whole: Tensor) -> Tensor:
        """Part cosines by which pairs of whole logits (K,) reach scores (n, K) or (n, 1): (n, K) in float64."""
        return (scores.double() - self.whole_factor * (whole.double() - self.whole_bias)) / self.factor
