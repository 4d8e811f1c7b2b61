"""A second device for machines with one: tensors that say where they are, hold their numbers on the CPU, and refuse to mix.

Python runs as it does with a GPU, on true numbers, and an operation on tensors of both devices raises, as a GPU would.
It says nothing about CUDA's kernels, their precision or their speed.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
# The name of a device that has no kernels here but that autograd and indexing put up with; "cuda" they do not.
ELSEWHERE = torch.device("lazy", 0)
# Move numbers between devices, so both may take part.
_MOVES = {aten._to_copy.default, aten.copy_.default}
# A tensor on a GPU may be indexed by one on the CPU.
_INDEXES = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class Elsewhere(Tensor):
    """A tensor that says it is on the other device; its numbers are `inner`."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Elsewhere":
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=ELSEWHERE,
        )
        made.inner = inner
        return made

    def __repr__(self) -> str:
        return f"Elsewhere({self.inner})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Is written to a file as the CPU tensor that it would be read back as."""
        return self.inner.__reduce_ex__(protocol)

    def tolist(self) -> Any:
        return self.detach().inner.tolist()  # torch gives lists of its own class alone

    def numpy(self, *arguments: Any, **named: Any) -> Any:
        raise TypeError("a tensor on a GPU gives no array; call .cpu() first")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Sees the operations that make a tensor from nothing."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    away = any(isinstance(tensor, Elsewhere) for tensor in tensors)
    if away and func not in _MOVES:
        _refuse_a_mix(func, args, tensors)
    wanted = kwargs.get("device")
    inner_args, inner_kwargs = tree_map(_inner, (args, {k: v for k, v in kwargs.items() if k != "pin_memory"}))
    if wanted is not None:
        inner_kwargs["device"] = torch.device("cpu")
    result = func(*inner_args, **inner_kwargs)
    if func is aten.copy_.default:
        return args[0]
    if not (torch.device(wanted) == ELSEWHERE if wanted is not None else away):
        return result
    wrapped = tree_map(lambda leaf: Elsewhere(leaf) if isinstance(leaf, Tensor) else leaf, result)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if away else wrapped


def _refuse_a_mix(func: Any, args: Any, tensors: list[Tensor]) -> None:
    here = [t for t in tensors if not isinstance(t, Elsewhere) and t.dim()]  # a single number may come from anywhere
    indexes = func in _INDEXES and isinstance(args[0], Elsewhere) and not any(t.is_floating_point() for t in here)
    if here and not indexes:
        shapes = ", ".join(f"{tuple(t.shape)} {'there' if isinstance(t, Elsewhere) else 'here'}" for t in tensors)
        raise RuntimeError(f"{func}: expected all tensors on one device, found {shapes}")


def _inner(leaf: Any) -> Any:
    return leaf.inner if isinstance(leaf, Elsewhere) else leaf


@contextlib.contextmanager
def pretended_device() -> Iterator[torch.device]:
    """Gives the device; inside, `.to(device)` and factories work as with a GPU. Autocast to it does nothing."""
    autocast = torch.autocast

    def known(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return contextlib.nullcontext() if device_type == "lazy" else autocast(device_type, *args, **kwargs)

    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # so that torch.tensor(..., device=...) comes by the factories
    try:
        with (
            mock.patch("torch.autocast", known),
            mock.patch("torch.optim.optimizer._get_fused_kernels_supported_devices", lambda: ["lazy"]),
            _Factories(),
        ):
            yield ELSEWHERE
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
