"""Scores of every image with every long caption: whole, part, and their blends (CAFT++, Eq. 10)."""

import torch
from torch import Tensor

from caft.model import CAFT

_IMAGES_AT_ONCE, _TEXTS_AT_ONCE = 64, 256


@torch.no_grad()
def part_scores(model: CAFT, part: Tensor, texts: Tensor) -> Tensor:
    """Mean over a caption's chunks of the part-level logit, a tile at a time.

    Args:
        model: Gives the pooling and the temperature.
        part: Segments of the images, (B, N, D).
        texts: Chunk features of the captions, (Q, C, D).

    Returns:
        Scores (B, Q), with the learnt scale and bias.
    """
    queries, chunks, _ = texts.shape
    flat = texts.flatten(0, 1)
    rows = []
    for first in range(0, len(part), _IMAGES_AT_ONCE):
        images = part[first : first + _IMAGES_AT_ONCE]
        tiles = [
            model.part_logits(images, flat[start : start + _TEXTS_AT_ONCE])
            for start in range(0, len(flat), _TEXTS_AT_ONCE)
        ]
        rows.append(torch.cat(tiles, dim=1).unflatten(1, (queries, chunks)).mean(2))
    return torch.cat(rows)


def blend(model: CAFT, whole: Tensor, part: Tensor, weight: float, space: str = "logit") -> Tensor:
    """(1 - weight) * whole + weight * part, of logits (the authors' code) or of cosines; biases left out.

    Args:
        model: Gives the temperatures.
        whole: Whole-level logits, (B, Q).
        part: Part-level logits, (B, Q).
        weight: Of the part score, in [0, 1].
        space: "logit" or "cosine".
    """
    whole, part = whole - model.whole_bias, part - model.part_bias
    if space == "cosine":
        whole, part = whole / model.whole_scale, part / model.part_scale
    return (1 - weight) * whole + weight * part
