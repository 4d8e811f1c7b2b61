"""What differs where the device works behind the program's back: there, asking for a number waits for all work before it."""

from collections.abc import Sequence

import torch
from torch import Tensor


def runs_ahead(device: torch.device) -> bool:
    """Whether operations return before they are done, so that a value read by the program costs a wait."""
    return device.type == "cuda"


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host's on the device; by way of pinned memory where the copy need not be waited for."""
    if not runs_ahead(device) or tensor.device == device:
        return tensor.to(device)
    return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(device, non_blocking=True)


def constants(values: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A few numbers, (len(values),), made on the device: from a list they would be copied there, which waits for a GPU."""
    return torch.stack([torch.full((), value, dtype=dtype, device=device) for value in values])
