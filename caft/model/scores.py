"""Scores of every image with every long caption: whole, part, and their blends (CAFT++, Eq. 10).

The part score of a flat text tower, which takes a caption as one text, is FLAIR's text-conditioned score. A model
without a part level has the whole score alone.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caft.network.part_cosines import PartCosines

if TYPE_CHECKING:  # the model's own methods call these functions
    from caft.network.caft import CAFT, Level


@torch.no_grad()
def whole_scores(model: "CAFT", images: Tensor, texts: Tensor) -> Tensor:
    """Whole-level logits, on the CPU: features of unit norm (B, D) and (Q, D) to (B, Q)."""
    device = model.device
    return model.whole_logits(images.to(device), texts.to(device)).float().cpu()


@torch.no_grad()
def part_scores(model: "CAFT", part: Tensor, texts: Tensor) -> Tensor:
    """Mean over a caption's chunks of the part-level logit, a tile at a time (see `caft.network.part_cosines`).

    A caption with fewer sentences than chunks has some of them twice, and they count twice: as the authors' code.

    Args:
        model: Gives the pooling and the temperature.
        part: Segments of the images, (B, N, D).
        texts: Chunk features of the captions, (Q, C, D).

    Returns:
        Scores (B, Q), with the learnt scale and bias, on the CPU.
    """
    scores = torch.empty(len(part), len(texts))
    with torch.autocast(model.device.type, enabled=False):
        for rows, cosines in _cosines(model, texts).of_all(part):
            scores[rows] = _part_logits(model, cosines)
    return scores


@torch.no_grad()
def some_part_scores(model: "CAFT", part: Tensor, texts: Tensor, wanted: Sequence[Tensor]) -> list[Tensor]:
    """`part_scores` of some pairs alone.

    Args:
        model: Gives the pooling and the temperature.
        part: Segments of the images, (B, N, D).
        texts: Chunk features of the captions, (Q, C, D).
        wanted: For each image the numbers of the captions that ask it, (K,); K may differ, and may be zero.

    Returns:
        For each image its scores (K,), on the CPU.
    """
    with torch.autocast(model.device.type, enabled=False):
        cosines = _cosines(model, texts)
        return [
            _part_logits(model, cosines.of_some(segments, captions.to(model.device)))
            for segments, captions in zip(part, wanted, strict=True)
        ]


def _cosines(model: "CAFT", texts: Tensor) -> PartCosines:
    assert model.pool is not None, "the model has no part level"
    return PartCosines(model.pool, texts.to(model.device))


def _part_logits(model: "CAFT", cosines: Tensor) -> Tensor:
    log_scale, bias = model.temperature("part")
    return (log_scale.exp() * cosines + bias).cpu()


@torch.no_grad()
def blend(model: "CAFT", whole: Tensor, part: Tensor, weight: float, space: str = "logit") -> Tensor:
    """(1 - weight) * whole + weight * part, of logits (the authors' code) or of cosines; biases left out.

    Args:
        model: Gives the temperatures.
        whole: Whole-level logits, (B, Q).
        part: Part-level logits, (B, Q).
        weight: Of the part score, in [0, 1].
        space: "logit" or "cosine".

    Raises:
        ValueError: The weight is outside [0, 1], or the space is unknown.
    """
    if not 0 <= weight <= 1 or space not in ("logit", "cosine"):
        raise ValueError(f"weight {weight} in space {space}: expected a weight in [0, 1], and logit or cosine")
    whole, part = without_bias(model, whole, "whole"), without_bias(model, part, "part")
    if space == "cosine":
        whole, part = whole / model.whole_scale, part / model.part_scale
    return (1 - weight) * whole + weight * part


@torch.no_grad()
def without_bias(model: "CAFT", logits: Tensor, level: "Level") -> Tensor:
    """Logits of a level less its bias: what a blend mixes."""
    return logits - float(model.temperature(level)[1])
