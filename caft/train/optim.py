"""Optimizer groups and the learning-rate schedule."""

import math

from torch import nn


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two groups: matrices and embeddings decay; vectors, scalars and class tokens' biases do not.

    As FLAIR, any parameter with fewer than two dimensions is left alone, so norms, biases and temperatures.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]


def learning_rate(step: int, peak: float, warmup_steps: int, steps: int) -> float:
    """Rate of a step, from 0, of a run of `steps`: linear to the peak, then a cosine to zero (open_clip's)."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))
