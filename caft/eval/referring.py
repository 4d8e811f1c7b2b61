"""Referring segmentation without mask training: attention map, Otsu's threshold, mask, mean IoU, and controls."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caft.data.benchmarks import ReferringSet
from caft.eval.features import encode_pictures
from caft.inference import attention_maps, encode_texts
from caft.model import CAFT
from caft.params import Membership
from caft.progress import track

_BINS = 256
# Pixels this close to the maximum, as a share of the map's range, are maximal too: a segment has one value, which
# upsampling returns with rounding errors.
_MAXIMAL = 1e-6


def otsu_mask(values: ArrayLike) -> NDArray[np.bool_]:
    """Splits a map at Otsu's threshold, the one with the largest variance between the classes.

    The map is scaled to [0, 1] and put into 256 bins of floats; the foreground lies strictly above the centre of the
    best bin, as with scikit-image's `threshold_otsu`.

    Args:
        values: A map of any shape.

    Returns:
        True in the foreground, same shape. A constant map has none.

    Raises:
        ValueError: A value is not a finite number.
    """
    scaled = _scaled(values)
    if not scaled.any():
        return np.zeros(scaled.shape, bool)
    counts, edges = np.histogram(scaled, bins=_BINS, range=(0.0, 1.0))
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    sums = counts * centres
    # The first and the last bin hold the minimum and the maximum, so no class is empty.
    mean_below = np.cumsum(sums) / below
    mean_above = np.cumsum(sums[::-1])[::-1] / above
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    mask: NDArray[np.bool_] = scaled > centres[np.argmax(between)]
    return mask


def iou(mask: ArrayLike, truth: ArrayLike) -> float:
    """Returns intersection over union of two masks in [0, 1]; 0 when both are empty.

    Raises:
        ValueError: The shapes differ.
    """
    intersection, union = _overlap(np.asarray(mask, bool), np.asarray(truth, bool))
    return intersection / union if union else 0.0


def pointing_hit(values: ArrayLike, truth: ArrayLike) -> float:
    """Returns the share of the map's maximal pixels that lie in the truth: 1 or 0 unless several share the maximum.

    A constant map scores the truth's share of the image.

    Raises:
        ValueError: The shapes differ, or a value is not a finite number.
    """
    scaled, inside = _scaled(values), np.asarray(truth, bool)
    if scaled.shape != inside.shape:
        raise ValueError(f"map of shape {scaled.shape} against a truth of shape {inside.shape}")
    return float(inside[scaled >= scaled.max() - _MAXIMAL].mean())


class ReferringTally:
    """Sums over expressions; every expression has the same weight, as in SaG's protocol."""

    def __init__(self) -> None:
        self._iou: list[float] = []
        self._wrong: list[float] = []
        self._foreground: list[float] = []
        self._image: list[float] = []
        self._pointing: list[float] = []
        self._intersection = 0
        self._union = 0

    def add(self, values: ArrayLike, objects: Sequence[NDArray[np.bool_]], target: int) -> None:
        """Scores the map of one expression.

        Args:
            values: Attention at the truth's resolution, (height, width).
            objects: Masks of all objects of the image, (height, width) each.
            target: Which of them the expression means.
        """
        mask, truth = otsu_mask(values), objects[target]
        intersection, union = _overlap(mask, truth)
        self._intersection += intersection
        self._union += union
        self._iou.append(intersection / union if union else 0.0)
        others = [iou(mask, other) for number, other in enumerate(objects) if number != target]
        if others:
            self._wrong.append(float(np.mean(others)))
        self._foreground.append(iou(np.any(objects, axis=0), truth))
        self._image.append(iou(np.ones_like(truth), truth))
        self._pointing.append(pointing_hit(values, truth))

    def scores(self) -> dict[str, float | int | None]:
        """Returns the scores in percent.

        - `miou`: mean IoU of the expressions' masks with their objects.
        - `miou_wrong_expression`: of the same masks with the other objects of the image, first averaged over these
          objects, then over expressions; None where no image has two objects. An attention map that ignores the words
          scores here as high as in `miou`.
        - `miou_all_foreground`: of all objects together: perfect saliency, words ignored.
        - `miou_whole_image`: of the whole image.
        - `overall_iou`: sum of the intersections over sum of the unions.
        - `pointing`: share of expressions whose map has its maximum in the object.
        - `expressions`: how many.

        Raises:
            ValueError: Nothing was added.
        """
        if not self._iou:
            raise ValueError("no expression was scored")
        return {
            "miou": _percent(self._iou),
            "miou_wrong_expression": _percent(self._wrong) if self._wrong else None,
            "miou_all_foreground": _percent(self._foreground),
            "miou_whole_image": _percent(self._image),
            "overall_iou": 100.0 * self._intersection / self._union if self._union else 0.0,
            "pointing": _percent(self._pointing),
            "expressions": len(self._iou),
        }


def score_referring(
    model: CAFT, benchmark: ReferringSet, batch: int, membership: Membership = "hard"
) -> dict[str, float | int | None]:
    """Scores a model on a set of referring expressions.

    The image is squashed whole to the model's size, so that every pixel can be predicted; an expression is one
    sub-caption, without a template; maps are compared with the truth at the truth's resolution.

    Args:
        model: The model.
        benchmark: The set.
        batch: Images or texts encoded at once.
        membership: Of superpixels in segments, as in `CAFT.segment_weights`.

    Returns:
        The keys of `ReferringTally.scores`.
    """
    tally = ReferringTally()
    images = benchmark.images
    texts = encode_texts(model, [e.text for image in images for e in image.expressions], batch)
    sizes = [(image.height, image.width) for image in images]
    pictures = encode_pictures(model, [image.path for image in images], sizes, batch)
    offset = 0
    for image, size, picture in zip(track(images, "images"), sizes, pictures, strict=True):
        queries = texts[offset : offset + len(image.expressions)]
        offset += len(image.expressions)
        masks = image.masks
        numbers = {annotation: number for number, annotation in enumerate(masks)}
        maps = attention_maps(model, picture, queries, size, membership)
        for values, expression in zip(maps, image.expressions, strict=True):
            tally.add(values, list(masks.values()), numbers[expression.annotation])
    return tally.scores()


def _scaled(values: ArrayLike) -> NDArray[np.float64]:
    """The map with its range moved to [0, 1]; zeros if it is constant."""
    array = np.asarray(values, np.float64)
    if not array.size or not np.isfinite(array).all():
        raise ValueError(f"map of shape {array.shape}: expected finite numbers, at least one")
    low, high = array.min(), array.max()
    return (array - low) / (high - low) if high > low else np.zeros_like(array)


def _overlap(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[int, int]:
    if mask.shape != truth.shape:
        raise ValueError(f"mask of shape {mask.shape} against a truth of shape {truth.shape}")
    return int((mask & truth).sum()), int((mask | truth).sum())


def _percent(values: Sequence[float]) -> float:
    return 100.0 * float(np.mean(values))
