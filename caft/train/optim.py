"""Optimizer groups and the learning-rate schedule."""

import math
from collections.abc import Callable
from typing import Literal

from torch import nn


def parameter_groups(
    module: nn.Module, weight_decay: float, scale_of: Callable[[str], float] = lambda name: 1.0
) -> list[dict[str, object]]:
    """Groups of what is trained: matrices and embeddings decay; vectors, scalars and class tokens' biases do not.

    As FLAIR, any parameter with fewer than two dimensions is left alone, so norms, biases and temperatures.

    Args:
        module: Its parameters, those without a gradient left out.
        weight_decay: Of the groups that decay.
        scale_of: Factor of a parameter's learning rate, by its name; a group has one, as `lr_scale`.
    """
    trained = [(scale_of(name), p) for name, p in module.named_parameters() if p.requires_grad]
    groups: list[dict[str, object]] = []
    for scale in sorted({scale for scale, _ in trained}, reverse=True):
        own = [p for other, p in trained if other == scale]
        for decay, params in ((weight_decay, [p for p in own if p.dim() >= 2]), (0.0, [p for p in own if p.dim() < 2])):
            if params:
                groups.append({"params": params, "weight_decay": decay, "lr_scale": scale})
    return groups


def learning_rate(
    step: int,
    peak: float,
    warmup_steps: int,
    steps: int,
    schedule: Literal["cosine", "constant"] = "cosine",
    cooldown: float = 0.0,
) -> float:
    """Rate of a step, from 0, of a run of `steps`: linear to the peak, then as the schedule says (open_clip's).

    A cosine falls to zero; a constant one stays at the peak and falls linearly to zero over the last share of all steps,
    the cooldown.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule == "constant":
        falling = round(cooldown * steps)
        return peak * min(1.0, (steps - step) / falling) if falling else peak
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))
