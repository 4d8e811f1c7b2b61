"""Operations that are alike on all x86-64 processors with AVX2, in place of torch's; see `caft.params.arithmetic`.

Under the setting that makes Intel's library alike everywhere, its products of matrices take several times as long. Numpy's
library, held to its kernels for Haswell, is alike everywhere as well, and as fast as before. Intel's square root heeds no
setting: it starts from an instruction that each processor rounds in its own way. Numpy's is the one that the standard of
floating point defines to the last bit. `pow` with 0.5 and roots that are written into a given tensor are still Intel's;
nothing here calls them.
"""

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caft.errors import ParamsError
from caft.params import arithmetic

_PRECISIONS = (torch.float32, torch.float64)


def start() -> None:
    """Makes torch round portably in this process if the environment says so: one thread, and the operations below.

    Raises:
        ParamsError: Torch was loaded in another environment.
    """
    if arithmetic.current() != "portable":
        return
    arithmetic.check()
    if (found := torch.backends.cpu.get_cpu_capability()) != "AVX2":
        raise ParamsError(
            f"arithmetic: portable is asked for, but torch took its kernels for {found}; "
            f"start Python with {arithmetic.VARIABLE}=portable, and import caft before torch and numpy"
        )
    torch.set_num_threads(1)  # sums are divided among threads
    # Of a CPU, too: it calls Intel's products itself, where torch's plain attention calls `bmm`.
    torch.backends.cuda.enable_flash_sdp(False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Warning only once for all operators", UserWarning)  # that they are replaced
        for name, operation in _OPERATIONS.items():
            _LIBRARY.impl(name, operation, "CPU")


def _fits(dimensions: int, left: Tensor, right: Tensor, *others: Tensor) -> bool:
    """Whether numpy takes these: matrices, or as many on both sides, that fit, all of one precision."""
    return (
        left.dim() == right.dim() == dimensions
        and left.shape[-1] == right.shape[-2]
        and left.shape[:-2] == right.shape[:-2]
        and left.dtype in _PRECISIONS
        and all(tensor.dtype == left.dtype for tensor in (right, *others))
    )


def _product(left: Tensor, right: Tensor) -> Tensor:
    out = left.new_empty((*left.shape[:-1], right.shape[-1]))
    with np.errstate(all="ignore"):  # as torch, which lets infinities pass
        np.matmul(_array(left), _array(right), out=out.numpy())
    return out


def _array(matrices: Tensor) -> NDArray[Any]:
    """A view that the library multiplies without a copy: rows or columns are contiguous."""
    if 1 not in matrices.stride()[-2:]:
        matrices = matrices.contiguous()
    return matrices.detach().numpy()


# All else is left to torch, by the forms that write into a given tensor: those are still its own, and raise its errors.


def _mm(left: Tensor, right: Tensor) -> Tensor:
    return _product(left, right) if _fits(2, left, right) else torch.mm(left, right, out=left.new_empty(0))


def _bmm(left: Tensor, right: Tensor) -> Tensor:
    return _product(left, right) if _fits(3, left, right) else torch.bmm(left, right, out=left.new_empty(0))


def _addmm(bias: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    if beta == alpha == 1 and _fits(2, left, right, bias):
        return _product(left, right).add_(bias)
    return torch.addmm(bias, left, right, beta=beta, alpha=alpha, out=left.new_empty(0))


def _sqrt(values: Tensor) -> Tensor:
    if values.dtype not in _PRECISIONS:
        return torch.sqrt(values, out=values.new_empty(0, dtype=torch.result_type(values, 0.5)))
    out = torch.empty_like(values)
    with np.errstate(all="ignore"):
        np.sqrt(values.detach().numpy(), out=out.numpy())
    return out


def _sqrt_(values: Tensor) -> Tensor:
    return values.copy_(_sqrt(values)) if values.dtype in _PRECISIONS else torch.sqrt(values, out=values)


def _safe_softmax(values: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """Torch's softmax with zeros where all of a row is shut out, but rows are looked through only where there is such a one.

    Attention calls it; torch's own takes two more passes over all logits. A row that is shut out comes out as not a number.
    """
    out = torch.softmax(values, dim, dtype)
    if values.shape[dim] == 0 or not bool(out.select(dim, 0).isnan().any()):
        return out
    return torch.where(values.isneginf().all(dim, keepdim=True), out.new_zeros(()), out)


_OPERATIONS = {
    "mm": _mm,
    "bmm": _bmm,
    "addmm": _addmm,
    "sqrt": _sqrt,
    "sqrt_": _sqrt_,
    "_safe_softmax": _safe_softmax,
}
_LIBRARY = torch.library.Library("aten", "IMPL")
