"""Exchange of features between ranks, with gradients."""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Gathered(NamedTuple):
    """Features of this rank, and of all ranks once they were exchanged.

    Attributes:
        own: Features of this rank, (T, D).
        stacked: Features of all ranks in order of rank, (R * T, D); None if they were not exchanged.
        rank: This rank.
    """

    own: Tensor
    stacked: Tensor | None
    rank: int

    @property
    def all(self) -> Tensor:
        """Features of all ranks, (R * T, D)."""
        assert self.stacked is not None, "these features were not exchanged"
        return self.stacked


class Exchange:
    """Stacks the features of all ranks in order of rank; each rank holds equally many.

    They are on their way from the start, so that other work hides the transfer. The backward pass sums over ranks, so a
    text gets gradient from every rank's images; DDP's mean over ranks then makes the optimised loss that of one process
    on the whole batch.

    Args:
        features: Features of this rank, each (T, D), or None.
        needed: Whether a term compares those of other ranks.
    """

    def __init__(self, *features: Tensor | None, needed: bool = True) -> None:
        self.features = features
        self.needed = needed
        self.ranks, self.rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
        self._sent = [None if own is None or not needed or self.ranks == 1 else self._send(own) for own in features]

    def _send(self, own: Tensor) -> tuple[list[Tensor], Any]:
        sent = own.detach().contiguous()
        parts = [torch.empty_like(sent) for _ in range(self.ranks)]
        return parts, dist.all_gather(parts, sent, async_op=True)

    def result(self) -> tuple[Gathered | None, ...]:
        """Waits for the transfer and gives the features in the order that they were given in."""
        found: list[Gathered | None] = []
        for own, sent in zip(self.features, self._sent, strict=True):
            stacked = own if self.needed else None
            if sent is not None:
                parts, work = sent
                work.wait()
                stacked = _Stacked.apply(own, parts)
            found.append(None if own is None else Gathered(own, stacked, self.rank))
        return tuple(found)


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
