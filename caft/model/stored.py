"""Features of many pictures that lie on disk: read when they are asked for, so that memory does not grow with them.

Whole-level features are kept as they are, in float32, and segments, sixteen times as many numbers in the small model, in half
precision: a number by at most its 2^-11th off. They are the pictures' features from then on: scores, and proofs of order,
are of what is kept. `HALF` says by how much a score of the segments before rounding may differ.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from caft.errors import DataError
from caft.model.encoding import EncodedImages

Stamp = tuple[str, int, int]
"""A file is the one that was encoded if its name, size and time of change are the same."""

# By how much half precision is taken to move a part cosine. Usual are 2e-5, as errors of single numbers are independent and
# attention averages over segments; heads that cancel to a thirtieth of their lengths reach it.
HALF = 2e-3

_TILE = 4096  # pictures read at a time where all are


@dataclass(frozen=True, eq=False)
class Shard:
    """Some pictures' features in one file, or in memory where they cannot be written.

    Attributes:
        pictures: Whose they are, row by row.
        place: A `.safetensors` file with `whole`, (n, D) in float32, and `part`, (n, N, D) in half precision, if the model
            has a part level; or these tensors.
    """

    pictures: list[Stamp]
    place: Path | dict[str, Tensor]

    def tensor(self, name: str) -> Tensor | None:
        """One of the two, mapped into memory: what is read of it is let go with it. None if there is no such."""
        if isinstance(self.place, dict):
            return self.place.get(name)
        try:
            with safe_open(self.place, "pt") as file:
                return file.get_tensor(name) if name in file.keys() else None  # noqa: SIM118, it is no dict
        except (SafetensorError, OSError) as error:
            raise DataError(
                f"{self.place}: was there and cannot be read now ({error}); another process may have put it together with "
                "others: run the search again"
            ) from error


class StoredRows:
    """One tensor over all pictures, of which rows are read when they are asked for, as float32.

    Args:
        shards: Hold the rows.
        name: Of the tensor.
        at: Shard and row of each picture, int32 (B, 2).

    Attributes:
        shape: As of a tensor.
    """

    def __init__(self, shards: Sequence[Shard], name: str, at: Tensor) -> None:
        self._shards, self._name, self._at = shards, name, at
        self.shape = torch.Size([len(at), *self._tensor(int(at[0, 0])).shape[1:]])

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, chosen: slice | Tensor) -> Tensor:
        """Rows by a range or by their numbers (b,), in that order: (b, ...)."""
        shards, rows = self._at[chosen].long().unbind(1)
        result = torch.empty(len(rows), *self.shape[1:])
        for number in shards.unique().tolist():
            here = (shards == number).nonzero()[:, 0]
            result[here] = self._tensor(number)[rows[here]].float()
        return result

    def _tensor(self, shard: int) -> Tensor:
        tensor = self._shards[shard].tensor(self._name)
        assert tensor is not None, "one model has the same tensors in all shards"
        return tensor


@dataclass(frozen=True)
class StoredImages:
    """Features of images for retrieval, as `EncodedImages`, on disk.

    Attributes:
        whole: Whole-level features of unit norm, (B, D).
        part: Part-level segments, rounded to half precision, (B, N, D); None for a model without a part level.
    """

    whole: StoredRows
    part: StoredRows | None

    def tiles(self, part: bool = True) -> Iterator[EncodedImages]:
        """All of them, some at a time; the segments only if they are asked for."""
        for first in range(0, len(self.whole), _TILE):
            rows = slice(first, first + _TILE)
            yield EncodedImages(self.whole[rows], self.part[rows] if part and self.part is not None else None)

    def in_memory(self) -> EncodedImages:
        """All of them at once."""
        rows = slice(None)
        return EncodedImages(self.whole[rows], None if self.part is None else self.part[rows])
