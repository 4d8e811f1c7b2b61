"""Referring segmentation read at each level of the hierarchy: from superpixels to the coarsest segments."""

from dataclasses import dataclass

import numpy as np

from caft.data.sets import ReferringSet
from caft.eval.scores.features import MEMBERSHIPS
from caft.eval.scores.referring import ReferringTally, ask
from caft.eval.scores.superpixels import oracle_iou
from caft.network.caft import CAFT
from caft.transforms import nearest_pixels


@dataclass(frozen=True)
class Level:
    """One stage of the image tower; scores in percent."""

    tokens: int
    trained: bool  # the part-level loss acted on this stage; the other stages only share its projection
    hard: float  # mIoU when a pixel has the attention of its most likely segment
    wrong: float | None  # of the same masks with the other objects of the image; None where no image has two
    soft: float  # mIoU when it has the mean over all segments, weighted by its share in each
    oracle: float  # mIoU of the best choice of most likely segments: what no attention over them can pass


def score_levels(model: CAFT, benchmark: ReferringSet, batch: int, images: int) -> list[Level]:
    """Scores the attention of expressions of the first `images` images over the tokens of each stage, fine to coarse."""
    tallies = {kind: [ReferringTally() for _ in model.config.tokens] for kind in MEMBERSHIPS}
    oracle: list[list[float]] = [[] for _ in model.config.tokens]
    for asked in ask(model, benchmark.images[:images], batch):
        objects = [nearest_pixels(mask, *[model.config.image_size] * 2) for mask in asked.objects.values()]
        for stage, best in enumerate(oracle):
            for kind, found in tallies.items():
                asked.score(model, stage, kind, found[stage])
            labels = asked.stages.segments(model, stage)
            best += [oracle_iou(labels, mask) for mask in objects if mask.any()]
    levels = []
    for stage, tokens in enumerate(model.config.tokens):
        hard, soft = (tallies[kind][stage].scores() for kind in MEMBERSHIPS)
        bound = 100 * float(np.mean(oracle[stage] or 0))
        wrong = hard["miou_wrong_expression"]
        levels.append(Level(tokens, stage == model.config.part_stage - 1, hard["miou"], wrong, soft["miou"], bound))
    return levels
