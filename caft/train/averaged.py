"""The average of a training's weights, which is what is validated and kept where the recipe asks for one."""

import copy

import torch
from torch import Tensor

from caft.network.caft import CAFT


class WeightsAverage:
    """An exponential moving average of all weights, in float32 as they are; timm's ModelEmaV3 without its warm-up.

    As there, buffers of floating point, as batch norm's statistics, are averaged too, and counts are copied. It begins with
    the weights that training begins with. Every rank computes it by itself, from weights that are alike on all; of batch
    norm's statistics, which are not, the main rank's are kept.

    Attributes:
        model: A copy of the trained one that holds the average, in evaluation mode.
        decay: Share of the average that a step keeps.
    """

    def __init__(self, model: CAFT, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: CAFT, happened: Tensor) -> None:
        """Takes the weights after a step in.

        Args:
            model: The trained one.
            happened: Whether the step was done, a scalar on the weights' device, where nobody waits for it. If not, the
                average stays as it is, whatever a batch without finite numbers has left in the statistics.
        """
        ours, theirs = ([*module.parameters(), *module.buffers()] for module in (self.model, model))
        for kept, weights in zip(ours, theirs, strict=True):
            new = torch.where(happened, weights, kept)
            if kept.is_floating_point():
                kept.lerp_(new, 1 - self.decay)
            else:
                kept.copy_(new)
