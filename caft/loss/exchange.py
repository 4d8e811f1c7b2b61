"""Exchange of text features between ranks, with gradients."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class Exchange:
    """Stacks every rank's texts in order of rank; each rank holds equally many.

    The texts are on their way from the start, so that other work hides the transfer. The backward pass sums over ranks,
    so a text gets gradient from every rank's images; DDP's mean over ranks then makes the optimised loss that of one
    process on the whole batch.

    Args:
        texts: Features of this rank, (T, D).
    """

    def __init__(self, texts: Tensor) -> None:
        self.own = texts
        self._parts: list[Tensor] = []
        if dist.is_initialized() and dist.get_world_size() > 1:
            sent = texts.detach().contiguous()
            self._parts = [torch.empty_like(sent) for _ in range(dist.get_world_size())]
            self._work = dist.all_gather(self._parts, sent, async_op=True)

    def result(self) -> Tensor:
        """Features of all ranks, (R * T, D), once they are there."""
        if not self._parts:
            return self.own
        self._work.wait()
        gathered: Tensor = _Stacked.apply(self.own, self._parts)
        return gathered


def gather_texts(texts: Tensor) -> Tensor:
    """`Exchange` at once: features of this rank, (T, D), to those of all ranks, (R * T, D)."""
    return Exchange(texts).result()


class _Stacked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, parts: list[Tensor]) -> Tensor:  # noqa: D102
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None]:  # noqa: D102
        everyones = outputs[0].contiguous()
        gradient = everyones.new_empty(len(everyones) // dist.get_world_size(), *everyones.shape[1:])
        dist.reduce_scatter_tensor(gradient, everyones)
        return gradient, None
