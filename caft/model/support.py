"""Does a picture bear a sentence out more than other pictures do? A figure that compares sentences of any difficulty.

A part-level logit alone does not: a sentence that says little fits any picture better than one that says much. So support is
by how much the logit of a sentence with its own picture is above its mean over other pictures. 0 is what a picture gets that
has nothing to do with the sentence. docs/auditor.md has the figures by which it was chosen, of the bare logit, quantiles, ranks
and deviations: what is divided by the spread over others loses the false sentences that lie near the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from caft.errors import DataError
from caft.model.encoding import encode_squashed, encode_sub_captions
from caft.model.scores import part_scores, some_part_scores
from caft.network.caft import CAFT

OTHERS = 128  # pictures that a sentence is compared with
LEAST = 8  # pictures that there have to be, for a mean of the others
_FENCE = 1.5  # interquartile ranges: Tukey's
_ROUNDING = 1e-4  # of logits: what differs by less is alike


@dataclass(frozen=True)
class Scored:
    """Sentences of pictures, (S,) in the order given.

    Attributes:
        logits: Part-level logit of each with its own picture.
        support: In logits; NaN where all other pictures are alike to the sentence, so that it has none.
    """

    logits: NDArray[np.float32]
    support: NDArray[np.float32]


@dataclass(frozen=True)
class Judge:
    """A network, and the pictures that it compares with.

    Attributes:
        network: Has a part level.
        keys: What names each of the pictures: a sentence is not compared with its own.
        segments: Of the pictures, (R, N, D).
    """

    network: CAFT
    keys: Sequence[object]
    segments: Tensor

    @classmethod
    def of(cls, network: CAFT, keys: Sequence[object], pictures: Sequence[Image.Image]) -> "Judge":
        """Encodes the pictures to compare with.

        Raises:
            DataError: The network has no part level, or there are fewer than `LEAST` pictures.
        """
        if not network.has_part:
            raise DataError("the model has no part level, so no sentence has a support; take a model with grounding")
        if len(pictures) < LEAST:
            raise DataError(
                f"{len(pictures)} pictures: a sentence's support is measured against other pictures, and expects "
                f"{LEAST} at least; give more pictures with captions"
            )
        return cls(network, keys, _segments(network, pictures))

    def score(self, keys: Sequence[object], pictures: Sequence[Image.Image], texts: Sequence[Sequence[str]]) -> Scored:
        """Scores the sentences of some pictures, each as a sub-caption by itself; pictures are squashed.

        Args:
            keys: What names each picture.
            pictures: RGB.
            texts: Sentences of each; one may have none.
        """
        owner = np.repeat(np.arange(len(texts)), [len(some) for some in texts])
        if not len(owner):
            return Scored(np.zeros(0, np.float32), np.zeros(0, np.float32))
        asked = encode_sub_captions(self.network, [text for some in texts for text in some])[:, None]  # one chunk each
        wanted = [torch.from_numpy(np.flatnonzero(owner == place)) for place in range(len(texts))]
        own = torch.cat(some_part_scores(self.network, _segments(self.network, pictures), asked, wanted)).numpy()
        others = part_scores(self.network, self.segments, asked).numpy()  # (R, S)
        same = np.array([[key == other for key in keys] for other in self.keys])[:, owner]
        return Scored(own, support(own, others, ~same).astype(np.float32))


def support(own: ArrayLike, others: ArrayLike, counted: ArrayLike) -> NDArray[np.float64]:
    """A sentence's own logit (S,) less the mean of those of other pictures (R, S) that are counted (R, S).

    NaN where the others do not differ, or fewer than two are counted.
    """
    values, mask = np.asarray(others, np.float64), np.asarray(counted, bool)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(mask, values, 0).sum(0) / mask.sum(0)
        differ = np.where(mask, values, -np.inf).max(0, initial=-np.inf) - mean > _ROUNDING
    return np.where(differ & (mask.sum(0) > 1), np.asarray(own, np.float64) - mean, np.nan)


def least_support(values: ArrayLike, share: float | None = None) -> float:
    """The support below which a sentence of a corpus is flagged, by the corpus itself; NaN values are left out.

    Args:
        values: Supports of all its sentences.
        share: How many to flag, in [0, 1]: that quantile. None: Tukey's fence, 1.5 interquartile ranges below the lower
            quartile, where an outlier begins by convention. It moves little as long as fewer than a quarter are outliers,
            and in a corpus without any it flags nearly nothing.

    Raises:
        DataError: No sentence has a support.
    """
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    if not known.size:
        raise DataError("no sentence has a support: all pictures are alike to the model; give other pictures")
    if share is not None:
        return float(np.quantile(known, share))
    low, high = np.quantile(known, [0.25, 0.75])
    return float(low - _FENCE * (high - low))


def _segments(network: CAFT, pictures: Sequence[Image.Image]) -> Tensor:
    found = [features.part for features in encode_squashed(network, pictures)]
    return torch.cat([part.float() for part in found if part is not None])
