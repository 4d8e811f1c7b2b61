"""Exchange of features between ranks, with gradients."""

from functools import cached_property
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class Exchange:
    """Features of this rank beside those of all ranks, stacked in order of rank; each rank holds equally many.

    They are on their way from the start, so that other work hides the transfer. The backward pass sums over ranks, so a
    text gets gradient from every rank's images; DDP's mean over ranks then makes the optimised loss that of one process
    on the whole batch.

    Args:
        own: Features of this rank, (T, D).
        needed: Whether a term compares those of other ranks; else they are not sent.
    """

    def __init__(self, own: Tensor, needed: bool = True) -> None:
        self.own = own
        self.needed = needed
        self.ranks, self.rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
        self._parts: list[Tensor] = []
        if needed and self.ranks > 1:
            sent = own.detach().contiguous()
            self._parts = [torch.empty_like(sent) for _ in range(self.ranks)]
            self._work = dist.all_gather(self._parts, sent, async_op=True)

    @cached_property
    def all(self) -> Tensor:
        """Features of all ranks, (R * T, D), once they have arrived."""
        # Not stacked before a term asks: gradients are summed in the reverse order of use, which decides their rounding.
        return self.result()

    def result(self) -> Tensor:
        """Waits for the transfer; `all` keeps what this gives."""
        assert self.needed, "these features were not exchanged"
        if not self._parts:
            return self.own
        self._work.wait()
        gathered: Tensor = _Stacked.apply(self.own, self._parts)
        return gathered


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
