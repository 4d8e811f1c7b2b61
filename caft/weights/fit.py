"""Takes one tensor of a file for one of a model, or says why not: shape, kind of number, and that scores are finite."""

import logging
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from caft.weights.misfits import Problem

logger = logging.getLogger(__name__)

_LARGEST = 1e30  # of a score's scale and bias; far more than any model has, and sums of such scores stay finite


def fitted(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | Problem:
    """The tensor in the model's type, or what is wrong with it.

    Floats of any precision become the model's. Integers are no weights: what a quantised file means by them, it alone knows.

    Args:
        name: In the file.
        tensor: Of the file.
        shape: That it must have.
        dtype: Of the model's tensor.
    """
    if tuple(tensor.shape) != shape:
        return Problem("shape", name, f"found {tuple(tensor.shape)}, expected {shape}")
    if tensor.is_quantized or tensor.layout is not torch.strided:
        found = "a quantised tensor" if tensor.is_quantized else f"a tensor of layout {tensor.layout}"
        return Problem("type", name, f"found {found}, expected {_plain(dtype)}")
    allowed = tensor.is_floating_point() or (not dtype.is_floating_point and not tensor.is_complex())
    if not allowed:
        return Problem("type", name, f"found {_plain(tensor.dtype)}, expected {_plain(dtype)}")
    result = tensor.to(dtype)
    looked_at = result if dtype.is_floating_point else tensor.float()
    if looked_at.is_meta or not looked_at.numel():
        return result
    # The extremes of what holds a NaN are NaN; one pass, without another tensor of this size.
    if not all(extreme.isfinite() for extreme in torch.aminmax(looked_at)):
        count = int((~looked_at.isfinite()).sum())
        return Problem("not finite", name, f"{count:,} of {looked_at.numel():,} numbers are NaN or infinite")
    detail = _impossible(name.rpartition(".")[2], looked_at)
    return result if detail is None else Problem("impossible", name, detail)


def _impossible(leaf: str, value: Tensor) -> str | None:
    """What is wrong with finite numbers that no training gives, and that would make scores infinite or meaningless."""
    if leaf == "running_var" and bool((value < 0).any()):
        return f"{int((value < 0).sum()):,} of {value.numel():,} variances are negative"
    if (leaf.endswith("log_scale") or leaf.startswith("logit_scale")) and bool((value.exp() > _LARGEST).any()):
        return f"is the scale's logarithm, {float(value.max()):g}; the scale must be at most {_LARGEST:g}"
    if (leaf in ("part_bias", "whole_bias") or leaf.startswith("logit_bias")) and bool((value.abs() > _LARGEST).any()):
        return f"has the size {float(value.abs().max()):g}; expected at most {_LARGEST:g}"
    return None


def say_converted(source: str | Path, tensors: Iterable[Tensor], dtype: torch.dtype = torch.float32) -> None:
    """One line where weights are floats of another precision, which the model's replaces."""
    kinds = sorted({_plain(tensor.dtype) for tensor in tensors if tensor.is_floating_point()} - {_plain(dtype)})
    if kinds:
        logger.warning("%s: weights are %s; they are converted to %s", source, " and ".join(kinds), _plain(dtype))


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
