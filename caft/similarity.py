"""Scores of every image with every long caption: whole, part, and their blends (CAFT++, Eq. 10).

The part score of a flat text tower, which takes a caption as one text, is FLAIR's text-conditioned score. A model
without a part level has the whole score alone.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:  # the model's own methods call these functions
    from caft.model import CAFT, Level

# Bounds the largest tensor of a tile, features pooled for every pair of an image and a chunk: 34 MB at D = 512.
_IMAGES_AT_ONCE, _TEXTS_AT_ONCE = 64, 256


@torch.no_grad()
def whole_scores(model: "CAFT", images: Tensor, texts: Tensor) -> Tensor:
    """Whole-level logits, on the CPU: features of unit norm (B, D) and (Q, D) to (B, Q)."""
    device = model.device
    return model.whole_logits(images.to(device), texts.to(device)).float().cpu()


@torch.no_grad()
def part_scores(model: "CAFT", part: Tensor, texts: Tensor) -> Tensor:
    """Mean over a caption's chunks of the part-level logit, a tile at a time.

    A caption with fewer sentences than chunks has some of them twice, and they count twice: as the authors' code.

    Args:
        model: Gives the pooling and the temperature.
        part: Segments of the images, (B, N, D).
        texts: Chunk features of the captions, (Q, C, D).

    Returns:
        Scores (B, Q), with the learnt scale and bias, on the CPU.
    """
    queries, chunks, _ = texts.shape
    device = model.device
    flat = texts.flatten(0, 1)
    scores = torch.empty(len(part), queries)
    for first in range(0, len(part), _IMAGES_AT_ONCE):
        images = part[first : first + _IMAGES_AT_ONCE].to(device)
        row = torch.cat(
            [
                model.part_logits(images, flat[start : start + _TEXTS_AT_ONCE].to(device)).float()
                for start in range(0, len(flat), _TEXTS_AT_ONCE)
            ],
            dim=1,
        )  # (images, Q * C)
        scores[first : first + _IMAGES_AT_ONCE] = row.unflatten(1, (queries, chunks)).mean(2).cpu()
    return scores


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
        ValueError: The weight or the space is none.
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
