"""Referring segmentation without mask training: attention map, Otsu's threshold, mask, mean IoU, and controls."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caft.data.sets import ReferringSet
from caft.eval.scores.stages import encode_stages
from caft.model.encoding import encode_sub_captions
from caft.network.caft import CAFT
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
    mask: NDArray[np.bool_] = scaled > _otsu(scaled)
    return mask


def otsu_threshold(values: ArrayLike) -> float:
    """Returns the threshold of `otsu_mask` in the map's own units; a constant map's value."""
    array = np.asarray(values, np.float64)
    low, high = float(array.min()), float(array.max())
    return low + _otsu(_scaled(array)) * (high - low)


def _otsu(scaled: NDArray[np.float64]) -> float:
    """Otsu's threshold of a map with the range [0, 1], or of one of zeros."""
    if not scaled.any():
        return 0.0
    counts, edges = np.histogram(scaled, bins=_BINS, range=(0.0, 1.0))
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    sums = counts * centres
    # The first and the last bin hold the minimum and the maximum, so no class is empty.
    mean_below = np.cumsum(sums) / below
    mean_above = np.cumsum(sums[::-1])[::-1] / above
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(centres[np.argmax(between)])


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


class MaskScore(NamedTuple):
    """How the map of one expression did; shares in [0, 1].

    Attributes:
        intersection: Of its mask with its object, in pixels.
        union: Of both, in pixels.
        wrong: Mean IoU of its mask with the other objects of the image; None where there is no other.
        foreground: IoU of all objects together with its object.
        image: IoU of the whole image with its object.
        pointing: Share of the map's maximal pixels that lie in its object.
        threshold: Otsu's, in the map's units.
    """

    intersection: int
    union: int
    wrong: float | None
    foreground: float
    image: float
    pointing: float
    threshold: float

    @property
    def iou(self) -> float:
        """IoU of the mask with the object; 0 when both are empty."""
        return self.intersection / self.union if self.union else 0.0


class ReferringTally:
    """Scores of expressions; every expression has the same weight, as in SaG's protocol."""

    def __init__(self) -> None:
        self._found: list[MaskScore] = []

    def add(self, values: ArrayLike, objects: Sequence[NDArray[np.bool_]], target: int) -> MaskScore:
        """Scores the map of one expression.

        Args:
            values: Attention at the truth's resolution, (height, width).
            objects: Masks of all objects of the image, (height, width) each.
            target: Which of them the expression means.
        """
        mask, truth = otsu_mask(values), objects[target]
        others = [iou(mask, other) for number, other in enumerate(objects) if number != target]
        score = MaskScore(
            *_overlap(mask, truth),
            wrong=float(np.mean(others)) if others else None,
            foreground=iou(np.any(objects, axis=0), truth),
            image=iou(np.ones_like(truth), truth),
            pointing=pointing_hit(values, truth),
            threshold=otsu_threshold(values),
        )
        self._found.append(score)
        return score

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
        found = self._found
        if not found:
            raise ValueError("no expression was scored")
        wrong = [score.wrong for score in found if score.wrong is not None]
        intersection, union = sum(score.intersection for score in found), sum(score.union for score in found)
        return {
            "miou": _percent([score.iou for score in found]),
            "miou_wrong_expression": _percent(wrong) if wrong else None,
            "miou_all_foreground": _percent([score.foreground for score in found]),
            "miou_whole_image": _percent([score.image for score in found]),
            "overall_iou": 100.0 * intersection / union if union else 0.0,
            "pointing": _percent([score.pointing for score in found]),
            "expressions": len(found),
        }


class ExpressionScore(NamedTuple):
    """An expression at one level: file name of its image, its object, its text, tokens of the level, and the score."""

    image: str
    annotation: int
    text: str
    level: int
    score: MaskScore


def score_expressions(
    model: CAFT, benchmark: ReferringSet, batch: int, membership: Membership = "hard"
) -> tuple[dict[str, Any], list[ExpressionScore]]:
    """Scores a model on a set of referring expressions.

    The image is squashed whole to the model's size, so that every pixel can be predicted; an expression is one
    sub-caption, without a template; maps are compared with the truth at the truth's resolution.

    Args:
        model: The model.
        benchmark: The set.
        batch: Images or texts encoded at once.
        membership: Of superpixels in segments, as in `CAFT.segment_weights`.

    Returns:
        The keys of `ReferringTally.scores`, of the part level, with `miou_by_level`: that of each stage by its number of
        tokens, over which the same text looks; the part-level loss acted on one of them alone. And each expression at
        each level.
    """
    images = benchmark.images
    texts = encode_sub_captions(model, [e.text for image in images for e in image.expressions], batch)
    sizes = [(image.height, image.width) for image in images]
    levels = model.config.tokens
    tallies = [ReferringTally() for _ in levels]
    rows = []
    offset = 0
    encoded = encode_stages(model, [image.path for image in images], sizes, batch)
    for image, size, picture in zip(track(images, "images"), sizes, encoded, strict=True):
        queries = texts[offset : offset + len(image.expressions)]
        offset += len(image.expressions)
        masks = image.masks
        numbers = {annotation: number for number, annotation in enumerate(masks)}
        for stage, (level, tally) in enumerate(zip(levels, tallies, strict=True)):
            maps = picture.maps(model, stage, queries, size, membership)
            for values, (text, annotation) in zip(
                maps, ((e.text, e.annotation) for e in image.expressions), strict=True
            ):
                score = tally.add(values, list(masks.values()), numbers[annotation])
                rows.append(ExpressionScore(image.path.name, annotation, text, level, score))
    scores: dict[str, Any] = {**tallies[model.config.part_stage - 1].scores()}
    scores["miou_by_level"] = {str(n): tally.scores()["miou"] for n, tally in zip(levels, tallies, strict=True)}
    return scores, rows


def score_referring(
    model: CAFT, benchmark: ReferringSet, batch: int, membership: Membership = "hard"
) -> dict[str, Any]:
    """The scores of `score_expressions` alone."""
    return score_expressions(model, benchmark, batch, membership)[0]


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
