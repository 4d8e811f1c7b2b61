"""Exchange of text features between ranks, with gradients."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather_texts(texts: Tensor) -> Tensor:
    """Stacks every rank's texts in order of rank; each rank holds equally many.

    The backward pass sums over ranks, so a text gets gradient from every rank's images; DDP's mean over ranks then
    makes the optimised loss that of one process on the whole batch.

    Args:
        texts: Features of this rank, (T, D).

    Returns:
        Features of all ranks, (R * T, D).
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return texts
    gathered: Tensor = _Gather.apply(texts.contiguous())
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, texts: Tensor) -> Tensor:  # noqa: D102
        ctx.rows = len(texts)
        parts = [torch.empty_like(texts) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, texts)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Tensor:  # noqa: D102
        gradient = outputs[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        start = dist.get_rank() * ctx.rows
        return gradient[start : start + ctx.rows]
