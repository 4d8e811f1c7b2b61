"""Referring segmentation without mask training: attention map, Otsu's threshold, mask, mean IoU, and controls."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from caft.data.sets import ReferringImage, ReferringSet
from caft.eval.scores.features import Stages, encode_stages
from caft.model.encoding import encode_sub_captions
from caft.model.otsu import otsu_mask, otsu_threshold, scaled_map
from caft.network.caft import CAFT
from caft.params.evaluation import Membership
from caft.progress import track

# Pixels this close to the maximum, as a share of the map's range, are maximal too: a segment has one value, which
# upsampling returns with rounding errors.
_MAXIMAL = 1e-6


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
    scaled, inside = scaled_map(values), np.asarray(truth, bool)
    if scaled.shape != inside.shape:
        raise ValueError(f"map of shape {scaled.shape} against a truth of shape {inside.shape}")
    return float(inside[scaled >= scaled.max() - _MAXIMAL].mean())


class MaskScore(NamedTuple):
    """How the map of one expression did; shares in [0, 1]."""

    intersection: int  # of its mask with its object, in pixels
    union: int  # of both, in pixels
    wrong: float | None  # mean IoU of its mask with the other objects of the image; None where there is no other
    foreground: float  # IoU of all objects together with its object
    image: float  # IoU of the whole image with its object
    pointing: float  # share of the map's maximal pixels that lie in its object
    threshold: float  # Otsu's, in the map's units

    @property
    def iou(self) -> float:
        """IoU of the mask with the object; 0 when both are empty."""
        return self.intersection / self.union if self.union else 0.0


class ReferringTally:
    """Scores of expressions; every expression has the same weight, as in SaG's protocol."""

    def __init__(self) -> None:
        self._found: list[MaskScore] = []

    def add(self, values: ArrayLike, objects: Sequence[NDArray[np.bool_]], target: int) -> MaskScore:
        """Scores the map (height, width) of one expression, which means the object number `target` of those masks."""
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

    def scores(self) -> dict[str, Any]:
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


@dataclass(frozen=True)
class AskedImage:
    """An annotated image and what its expressions ask."""

    image: ReferringImage
    stages: Stages
    texts: Tensor  # features of the expressions, (Q, D)
    objects: Mapping[int, NDArray[np.bool_]]  # masks (height, width) by annotation id

    def score(self, model: CAFT, stage: int, membership: Membership, tally: ReferringTally) -> list[MaskScore]:
        """Adds the mask of each expression, read at one stage of the image tower, to a tally."""
        size = (self.image.height, self.image.width)
        maps = self.stages.maps(model, stage, self.texts, size, membership)
        objects, places = list(self.objects.values()), list(self.objects)
        return [
            tally.add(values, objects, places.index(expression.annotation))
            for values, expression in zip(maps, self.image.expressions, strict=True)
        ]


def ask(model: CAFT, images: Sequence[ReferringImage], batch: int) -> Iterator[AskedImage]:
    """Encodes annotated images, squashed whole to the model's size so that every pixel can be predicted.

    An expression is one sub-caption, without a template. The model must have a part level.
    """
    texts = encode_sub_captions(model, [e.text for image in images for e in image.expressions], batch)
    queries = iter(texts.split([len(image.expressions) for image in images]))
    encoded = encode_stages(model, [i.path for i in images], [(i.height, i.width) for i in images], batch)
    for image, stages in zip(track(images, "images"), encoded, strict=True):
        yield AskedImage(image, stages, next(queries), image.masks)


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
    """Scores a model on a set of referring expressions, with maps and truth at the truth's resolution.

    Returns:
        The keys of `ReferringTally.scores`, of the part level, with `miou_by_level`: that of each stage by its number of
        tokens, over which the same text looks; the part-level loss acted on one of them alone. And each expression at
        each level.
    """
    tallies = {level: ReferringTally() for level in model.config.tokens}
    rows = []
    for asked in ask(model, benchmark.images, batch):
        for stage, (level, tally) in enumerate(tallies.items()):
            found = asked.score(model, stage, membership, tally)
            for expression, score in zip(asked.image.expressions, found, strict=True):
                asks = (asked.image.path.name, expression.annotation, expression.text)
                rows.append(ExpressionScore(*asks, level, score))
    by_level = {level: tally.scores() for level, tally in tallies.items()}
    scores: dict[str, Any] = {**by_level[model.config.tokens[model.config.part_stage - 1]]}
    return scores | {"miou_by_level": {str(level): found["miou"] for level, found in by_level.items()}}, rows


def _overlap(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[int, int]:
    if mask.shape != truth.shape:
        raise ValueError(f"mask of shape {mask.shape} against a truth of shape {truth.shape}")
    return int((mask & truth).sum()), int((mask | truth).sum())


def _percent(values: Sequence[float]) -> float:
    return 100.0 * float(np.mean(values))
