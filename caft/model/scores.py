"""Scores of every image with every long caption: whole, part, and their blends (CAFT++, Eq. 10).

The part score of a flat text tower, which takes a caption as one text, is FLAIR's text-conditioned score. A model
without a part level has the whole score alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from caft.errors import DataError
from caft.model.protocols import RetrievalNetwork
from caft.network.caft import Level
from caft.network.part_cosines import PartCosines


@torch.no_grad()
def whole_scores(network: RetrievalNetwork, images: Tensor, texts: Tensor) -> Tensor:
    """Whole-level logits, on the CPU: features of unit norm (B, D) and (Q, D) to (B, Q)."""
    log_scale, bias = network.temperature("whole")
    logits = log_scale.exp() * images.to(network.device) @ texts.to(network.device).T + bias
    return logits.float().cpu()


@torch.no_grad()
def part_scores(network: RetrievalNetwork, part: Tensor, texts: Tensor) -> Tensor:
    """Mean over a caption's chunks of the part-level logit, a tile at a time (see `caft.network.part_cosines`).

    A caption with fewer sentences than chunks repeats some of them, and they count each time: as the authors' code.

    Returns:
        Scores, with the learnt scale and bias, on the CPU: segments (B, N, D) and chunk features (Q, C, D) to (B, Q).
    """
    scores = torch.empty(len(part), len(texts))
    with torch.autocast(network.device.type, enabled=False):
        for rows, cosines in _cosines(network, texts).of_all(part):
            scores[rows] = _part_logits(network, cosines)
    return scores


@torch.no_grad()
def some_part_scores(network: RetrievalNetwork, part: Tensor, texts: Tensor, wanted: Sequence[Tensor]) -> list[Tensor]:
    """`part_scores` of each image with the captions that `wanted` numbers for it, (K,); K may differ, and may be zero."""
    with torch.autocast(network.device.type, enabled=False):
        cosines = _cosines(network, texts)
        return [
            _part_logits(network, cosines.of_some(segments, captions.to(network.device)))
            for segments, captions in zip(part, wanted, strict=True)
        ]


def _cosines(network: RetrievalNetwork, texts: Tensor) -> PartCosines:
    if network.pool is None:
        raise DataError("the model has no part level, so it has no part scores")
    return PartCosines(network.pool, texts.to(network.device))


def _part_logits(network: RetrievalNetwork, cosines: Tensor) -> Tensor:
    log_scale, bias = network.temperature("part")
    return (log_scale.exp() * cosines + bias).cpu()


@torch.no_grad()
def blend(network: RetrievalNetwork, whole: Tensor, part: Tensor, weight: float, space: str = "logit") -> Tensor:
    """(1 - weight) * whole + weight * part, of logits (the authors' code) or of cosines; biases left out.

    Takes the logits of both levels, (B, Q), to scores (B, Q); the space is "logit" or "cosine".

    Raises:
        ValueError: The weight is outside [0, 1], or the space is unknown.
    """
    if not 0 <= weight <= 1 or space not in ("logit", "cosine"):
        raise ValueError(f"weight {weight} in space {space}: expected a weight in [0, 1], and logit or cosine")
    whole, part = without_bias(network, whole, "whole"), without_bias(network, part, "part")
    if space == "cosine":
        whole = whole / float(network.temperature("whole")[0].exp())
        part = part / float(network.temperature("part")[0].exp())
    return (1 - weight) * whole + weight * part


@torch.no_grad()
def without_bias(network: RetrievalNetwork, logits: Tensor, level: Level) -> Tensor:
    """Logits of a level less its bias: what a blend mixes."""
    return logits - float(network.temperature(level)[1])
