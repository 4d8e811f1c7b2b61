"""Referring segmentation read at each level of the hierarchy: from superpixels to the coarsest segments."""

from dataclasses import dataclass

import numpy as np

from caft.data.sets import ReferringSet
from caft.eval.scores.referring import iou, otsu_mask
from caft.eval.scores.stages import MEMBERSHIPS, encode_stages
from caft.eval.scores.superpixels import oracle_iou, squash_mask
from caft.model.encoding import encode_sub_captions
from caft.network.caft import CAFT


@dataclass(frozen=True)
class Level:
    """One stage of the image tower; scores in percent.

    Attributes:
        tokens: Of the stage.
        trained: The part-level loss acted on this stage; the other stages only share its projection.
        hard: mIoU when a pixel has the attention of its most likely segment.
        wrong: Of the same masks with the other objects of the image; zero where no image has two.
        soft: mIoU when it has the mean over all segments, weighted by its share in each.
        oracle: mIoU of the best choice of most likely segments: what no attention over them can pass.
    """

    tokens: int
    trained: bool
    hard: float
    wrong: float
    soft: float
    oracle: float


def score_levels(model: CAFT, benchmark: ReferringSet, batch: int, images: int) -> list[Level]:
    """Scores the attention of expressions over the tokens of each stage.

    Args:
        model: The model.
        benchmark: The set.
        batch: Images or texts encoded at once.
        images: How many to score, from the set's start.

    Returns:
        A level for each stage, fine to coarse.
    """
    stages = len(model.config.tokens)
    soft: list[list[float]] = [[] for _ in range(stages)]
    hard: list[list[float]] = [[] for _ in range(stages)]
    wrong: list[list[float]] = [[] for _ in range(stages)]
    oracle: list[list[float]] = [[] for _ in range(stages)]
    chosen = benchmark.images[:images]
    encoded = encode_stages(model, [image.path for image in chosen], [(i.height, i.width) for i in chosen], batch)
    for image, picture in zip(chosen, encoded, strict=True):
        texts = encode_sub_captions(model, [expression.text for expression in image.expressions], batch)
        masks = image.masks
        truths = [masks[expression.annotation] for expression in image.expressions]
        fitted = [squash_mask(mask, model.config.image_size) for mask in masks.values()]
        size = (image.height, image.width)
        for stage in range(stages):
            maps = {kind: picture.maps(model, stage, texts, size, kind) for kind in MEMBERSHIPS}
            for found, kind in zip((hard, soft), MEMBERSHIPS, strict=True):
                found[stage] += [iou(otsu_mask(value), truth) for value, truth in zip(maps[kind], truths, strict=True)]
            for value, expression in zip(maps["hard"], image.expressions, strict=True):
                others = [mask for annotation, mask in masks.items() if annotation != expression.annotation]
                if others:
                    wrong[stage].append(float(np.mean([iou(otsu_mask(value), other) for other in others])))
            labels = picture.segments(model, stage)
            oracle[stage] += [oracle_iou(labels, mask) for mask in fitted if mask.any()]
    return [
        Level(
            model.config.tokens[stage],
            stage == model.config.part_stage - 1,
            *(100 * float(np.mean(found[stage] or 0)) for found in (hard, wrong, soft, oracle)),
        )
        for stage in range(stages)
    ]
