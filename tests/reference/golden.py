"""Arrays of tests/golden, and the rule that a file's test compares every one of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "golden"
# Where tests/golden/README.md gives no tolerance; of the largest entry.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}


class Arrays:
    """The arrays of a file; remembers which were asked for."""

    def __init__(self, name: str) -> None:
        with np.load(FOLDER / f"{name}.npz") as file:
            self.tensors = {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}
        self.unread = set(self.tensors)

    def __getitem__(self, key: str) -> Tensor:
        self.unread.discard(key)
        return self.tensors[key]

    def __contains__(self, key: str) -> bool:
        return key in self.tensors


@contextmanager
def compared(name: str) -> Iterator[Arrays]:
    """Arrays of `name`.npz; fails at the end if one was not read."""
    arrays = Arrays(name)
    yield arrays
    assert not arrays.unread, f"{name}.npz: these arrays are compared with nothing"


def assert_equal(found: Tensor | None, expected: Tensor, tolerance: float | None = None) -> None:
    """Integers exactly; floats to a share of the largest entry, as wide as the array."""
    assert found is not None
    assert found.shape == expected.shape
    if not expected.is_floating_point():
        assert torch.equal(found.to(expected.dtype), expected)
        return
    assert found.dtype == expected.dtype
    error = float((found - expected).detach().abs().max())
    limit = (tolerance or TOLERANCES[expected.dtype]) * float(expected.detach().abs().max())
    assert error <= limit, f"off by {error:.3g}, {limit:.3g} allowed"
