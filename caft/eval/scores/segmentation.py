"""Zero-shot semantic segmentation: every pixel gets the class that its segment is nearest to; no mask is ever trained on.

Protocol: the whole image squashed to the model's size, no sliding window (those of CLIP-based methods, as SCLIP's 224 pixels
of a short side of 336, add resolution, which superpixels have); values of classes are upsampled bilinearly to the annotation's
size; the largest wins, of equal ones the first class. mIoU is mmsegmentation's: intersections and unions summed over all
images, pixels without a class left out, then the mean over the classes that occur in the truth or the prediction.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from caft.data.sets import SegmentationSet
from caft.data.sets.segmentation import IGNORED
from caft.eval.scores.metrics import counted
from caft.eval.scores.zero_shot import prompts
from caft.model.encoding import encode_squashed, encode_sub_captions
from caft.network.caft import CAFT, ImageFeatures
from caft.params.evaluation import Membership
from caft.progress import track

Map = Literal["value", "token", "attention"]
MAPS: tuple[Map, ...] = ("value", "token", "attention")
# Values of classes on all pixels of an image that are held at once.
_VALUES_AT_ONCE = 1 << 24
_DRAWS = 2000


class SegmentationTally:
    """Sums of the pixels of each class over images.

    Args:
        classes: How many there are.
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._images: list[NDArray[np.int64]] = []

    def add(self, predicted: NDArray[np.integer], truth: NDArray[np.integer]) -> None:
        """Adds an image: the class of every pixel, both (height, width); the truth may be `IGNORED`.

        Raises:
            ValueError: The shapes differ, or a class is none.
        """
        if predicted.shape != truth.shape:
            raise ValueError(f"prediction of shape {predicted.shape} against a truth of shape {truth.shape}")
        scored = truth != IGNORED
        found, right = predicted[scored].astype(np.int64), truth[scored].astype(np.int64)
        if len(found) and max(found.max(), right.max()) >= self._classes:
            raise ValueError(f"class {max(found.max(), right.max())} of {self._classes}, counted from 0")
        counts = [np.bincount(of, minlength=self._classes) for of in (right[found == right], found, right)]
        self._images.append(np.stack(counts))

    def scores(self) -> dict[str, Any]:
        """Returns the scores in percent.

        - `miou`: mean over the classes of intersection over union, both summed over the images.
        - `miou_interval`: its 95 % interval, `low` and `high`, of 2,000 bootstrap samples of the images.
        - `pixel_accuracy`: share of the pixels that have their class.
        - `iou`: of each class, None where neither truth nor prediction has it; such a class is not in the mean.

        Raises:
            ValueError: No pixel was scored.
        """
        counts = np.stack(self._images) if self._images else np.zeros((0, 3, self._classes), np.int64)  # (n, 3, C)
        total = counts.sum(0)
        if not total[2].any():
            raise ValueError("no pixel was scored")
        weights = np.random.default_rng(0).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=_DRAWS)
        drawn = np.stack([weights @ counts[:, of] for of in range(3)], axis=1)  # (draws, 3, C)
        means = np.array([_mean(_iou(sample)) for sample in drawn if sample[2].any()])
        low, high = np.percentile(means, (2.5, 97.5))
        iou = _iou(total)
        return {
            "miou": _mean(iou),
            "miou_interval": {"low": float(low), "high": float(high)},
            "pixel_accuracy": 100.0 * float(total[0].sum() / total[2].sum()),
            "iou": [None if np.isnan(value) else 100.0 * float(value) for value in iou],
        }


def _iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of each class from its pixels right, predicted and true, (3, C); NaN without any."""
    union = counts[1] + counts[2] - counts[0]
    return np.divide(counts[0], union, out=np.full(len(union), np.nan), where=union > 0)


def _mean(iou: NDArray[np.float64]) -> float:
    return 100.0 * float(np.nanmean(iou))


def score_segmentation(
    model: CAFT, benchmark: SegmentationSet, batch: int, membership: Membership = "hard"
) -> dict[str, Any]:
    """Scores a model with a part level on a set.

    A pixel's value for a class is that of its part-level segment, in three ways:

    - `value`: the cosine of the class with what the pooling makes of the segment alone, its value mapped by the output
      projection, as MaskCLIP reads CLIP. The one named first.
    - `token`: the cosine with the segment's token itself, as FLAIR's authors read their patches.
    - `attention`: the weight of the segment where the class asks the image; the map of referring expressions. Its sum over
      the segments does not say how much of the class is there, so classes compare badly.

    Returns:
        `segmentation`, by way what `SegmentationTally.scores` gives, `iou` by class, and `miou_one_class`, the same with
        every pixel of an image in the class that most of its scored ones were put into: what places add nothing to; `images`,
        `classes`, how many.
    """
    texts = class_queries(model, benchmark, batch)
    number = len(benchmark.classes)
    tallies = {way: (SegmentationTally(number), SegmentationTally(number)) for way in MAPS}
    encoded = encode_squashed(model, (image.picture for image in benchmark.labelled), batch)
    for image, features in zip(track(benchmark.labelled, "images"), encoded, strict=True):
        truth = image.labels
        for way, (tally, of_one) in tallies.items():
            predicted = predict(model, features, texts, truth.shape, way, membership)
            tally.add(predicted, truth)
            most = np.bincount(predicted[truth != IGNORED], minlength=1).argmax()
            of_one.add(np.full_like(predicted, most), truth)
    found = {}
    for way, (tally, of_one) in tallies.items():
        scores = tally.scores()
        by_class = dict(zip(_distinct(benchmark.classes), scores["iou"], strict=True))
        found[way] = scores | {"iou": by_class, "miou_one_class": of_one.scores()["miou"]}
    return {
        "segmentation": found,
        "classes": number,
        **counted("images", len(benchmark.labelled), benchmark.expected),
    }


def _distinct(names: Sequence[str]) -> list[str]:
    """Names as keys: one that an earlier class has too gets its number."""
    return [name if name not in names[:place] else f"{name} ({place + 1})" for place, name in enumerate(names)]


@torch.no_grad()
def class_queries(model: CAFT, benchmark: SegmentationSet, batch: int) -> Tensor:
    """Features of the classes, (C, D): mean over the unit features of their prompts, each read as one sub-caption."""
    features = []
    for name in track(benchmark.classes, "classes"):
        texts = [text.format(name=name) for text in benchmark.prompts] or prompts(name)
        features.append(F.normalize(encode_sub_captions(model, texts, batch), dim=-1).mean(0))
    return torch.stack(features)


@torch.no_grad()
def predict(
    model: CAFT, image: ImageFeatures, texts: Tensor, size: tuple[int, ...], way: Map, membership: Membership = "hard"
) -> NDArray[np.int64]:
    """Returns the class of every pixel, of `size`, (height, width).

    Args:
        model: With a part level.
        image: Features of one image, B = 1.
        texts: Of the classes, (C, D).
        size: Height and width.
        way: As in `score_segmentation`.
        membership: As in `CAFT.segment_weights`.
    """
    small = model.segment_to_pixels(_values(model, image, texts, way), image, membership).float()  # (1, C, S, S)
    best = torch.full(tuple(size), -torch.inf, device=small.device)
    chosen = torch.zeros(tuple(size), dtype=torch.int64, device=small.device)
    at_once = max(1, _VALUES_AT_ONCE // (size[0] * size[1]))
    for first in range(0, len(texts), at_once):
        large = F.interpolate(small[:, first : first + at_once], size=tuple(size), mode="bilinear", align_corners=False)
        values, places = large[0].max(0)  # of equal ones the first
        better = values > best
        best, chosen = torch.where(better, values, best), torch.where(better, places + first, chosen)
    return np.asarray(chosen.cpu().numpy())


def _values(model: CAFT, image: ImageFeatures, texts: Tensor, way: Map) -> Tensor:
    """What each segment has for each class, (1, C, N)."""
    assert model.pool is not None and image.part is not None, "the model has no part level"
    if way == "attention":
        return model.attention(image.part, texts[None])
    segments = image.part if way == "token" else model.pool.out(model.pool.project_tokens(image.part)[1].flatten(2))
    return F.cosine_similarity(texts[None, :, None].float(), segments[:, None].float(), dim=-1)
