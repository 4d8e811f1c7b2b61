"""Referring segmentation read at each level of the hierarchy: from superpixels to the coarsest segments."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from caft.data.benchmarks import ReferringSet
from caft.data.transforms import open_image, squash
from caft.eval.referring import iou, otsu_mask
from caft.eval.superpixels import oracle_iou, squash_mask
from caft.inference import encode_texts
from caft.model import CAFT


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
        batch: Texts encoded at once.
        images: How many to score, from the set's start.

    Returns:
        A level for each stage, fine to coarse.
    """
    stages = len(model.config.tokens)
    soft: list[list[float]] = [[] for _ in range(stages)]
    hard: list[list[float]] = [[] for _ in range(stages)]
    wrong: list[list[float]] = [[] for _ in range(stages)]
    oracle: list[list[float]] = [[] for _ in range(stages)]
    for image in benchmark.images[:images]:
        texts = encode_texts(model, [expression.text for expression in image.expressions], batch)
        masks = image.masks
        truths = [masks[expression.annotation] for expression in image.expressions]
        pixels = squash(open_image(image.path), model.config.image_size)[None].to(texts.device)
        for stage, (attention, weights, labels, superpixels) in enumerate(_stages(model, pixels, texts)):
            size = (image.height, image.width)
            maps = (
                _on_pixels(attention @ weights.transpose(1, 2), superpixels, size),
                _on_pixels(attention, labels, size),
            )
            for found, values in zip((soft, hard), maps, strict=True):
                found[stage] += [iou(otsu_mask(value), truth) for value, truth in zip(values, truths, strict=True)]
            for value, expression in zip(maps[1], image.expressions, strict=True):
                others = [mask for annotation, mask in masks.items() if annotation != expression.annotation]
                if others:
                    wrong[stage].append(float(np.mean([iou(otsu_mask(value), other) for other in others])))
            fitted = [squash_mask(mask, model.config.image_size) for mask in masks.values()]
            oracle[stage] += [oracle_iou(labels[0].cpu().numpy(), mask) for mask in fitted if mask.any()]
    return [
        Level(
            model.config.tokens[stage],
            stage == model.config.part_stage - 1,
            *(100 * float(np.mean(found[stage] or 0)) for found in (hard, wrong, soft, oracle)),
        )
        for stage in range(stages)
    ]


@torch.no_grad()
def _stages(model: CAFT, pixels: Tensor, texts: Tensor) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """For each stage attention (1, Q, N_s), weights (1, N_1, N_s), segments and superpixels of pixels (1, S, S)."""
    features = model.image_features(pixels)
    hierarchy = model.encode_hierarchy(pixels, features.labels)
    weights = torch.eye(model.config.tokens[0], device=pixels.device)[None]
    found = []
    for tokens, labels, assignment in zip(
        hierarchy.stages, [features.labels, *model.segments(features)], [None, *features.assignments], strict=True
    ):
        if assignment is not None:
            weights = weights @ assignment.float()
        found.append((model.attention(model.project_part(tokens), texts[None]), weights, labels, features.labels))
    return found


def _on_pixels(values: Tensor, labels: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Values of segments (1, Q, N) as maps (Q, height, width), upsampled as for the score."""
    flat = labels.flatten(1)[:, None].expand(-1, values.shape[1], -1)
    maps = values.gather(2, flat).unflatten(2, labels.shape[1:]).float()
    upsampled: np.ndarray = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)[0].cpu().numpy()
    return upsampled
