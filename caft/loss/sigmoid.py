"""The pairwise sigmoid loss (SigLIP)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def pairwise_sigmoid(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum over pairs of log(1 + exp(-label * logit)), in float32 or wider.

    Args:
        logits: Any shape.
        labels: +1 for a pair that belongs together, -1 for one that does not; broadcasts to the logits.

    Returns:
        A scalar; the caller divides.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return -F.logsigmoid(labels * wide).sum()
