"""Operations that are alike on all x86-64 processors with AVX2, in place of torch's; see `caft.params.arithmetic`.

Under the setting that makes Intel's library alike everywhere, its products of matrices take several times as long. Numpy's
library, held to its kernels for Haswell, is alike everywhere as well, and as fast as before. Intel's square root heeds no
setting: it starts from an instruction that each processor rounds in its own way. `pow` takes the root that the standard of
floating point defines to the last bit.
"""

import warnings

import numpy as np
import torch
from torch import Tensor

from caft.errors import ParamsError
from caft.params import arithmetic


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
            f"start Python with {arithmetic.VARIABLE}=portable, so that it is set before torch is imported"
        )
    torch.set_num_threads(1)  # sums are divided among threads
    torch.backends.cuda.enable_flash_sdp(
        False
    )  # of a CPU, too: it calls Intel's products; without it attention calls `bmm`
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Warning only once for all operators", UserWarning)  # that they are replaced
        for name, operation in _OPERATIONS.items():
            _LIBRARY.impl(name, operation, "CPU")


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Products of matrices, or of equally many pairs of them."""
    shape = (*left.shape[:-1], right.shape[-1])
    out = left.new_empty(shape)
    known = left.dtype == right.dtype and left.dtype in (torch.float32, torch.float64)
    if known and out.numel() and left.shape[-1] == right.shape[-2] and left.shape[:-2] == right.shape[:-2]:
        with np.errstate(all="ignore"):  # as torch, which lets infinities pass
            np.matmul(_array(left), _array(right), out=out.numpy())
        return out
    # Forms that write into a given tensor are still torch's, and raise its errors.
    return (torch.mm if left.dim() == 2 else torch.bmm)(left, right, out=out)


def _array(matrices: Tensor) -> np.ndarray:
    """A view that the library multiplies without a copy where rows or columns are contiguous."""
    if 1 not in matrices.stride()[-2:]:
        matrices = matrices.contiguous()
    return matrices.detach().numpy()


def _addmm(bias: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    product = _product(left, right)
    return product.mul_(alpha).add_(bias, alpha=beta) if (beta, alpha) != (1, 1) else product.add_(bias)


_OPERATIONS = {
    "mm": _product,
    "bmm": _product,
    "addmm": _addmm,
    "sqrt": lambda values: torch.pow(values, 0.5),
    "sqrt_": lambda values: values.pow_(0.5),
}
_LIBRARY = torch.library.Library("aten", "IMPL")
