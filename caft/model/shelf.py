"""Keeps features of pictures in a folder, shard by shard, so that work that was killed goes on where it was.

A shard is `NAME.safetensors`, and `NAME.json`, which is written after it and says whose features they are: without it there
is no shard. No name is used twice and none is written to again, so who reads a shard sees what was there when it looked.
One process writes at a time; those that read need not wait.
"""

import hashlib
import json
import logging
import os
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from caft.digests import tensors_digest
from caft.model.encoding import EncodedImages
from caft.model.stored import Shard, Stamp, StoredImages, StoredRows
from caft.storage import replacing, write_text

logger = logging.getLogger(__name__)

_SHARD_BYTES = 2**25  # what a kill may cost: some 7,700 pictures of the small model, 480 of the base model
_LOOKS = 5  # at most, while other processes write
_FEATURES, _RECORD = ".safetensors", ".json"


class Shelf:
    """The shards of a folder that were written under a key.

    Args:
        folder: Where they lie; it need not exist. None keeps features in memory alone.
        key: Differs where features would. Shards under another key are passed over.
        writes: Whether new features go to the folder; else they stay in memory.
    """

    def __init__(self, folder: Path | None, key: str, writes: bool = True) -> None:
        self._folder, self._key = folder, key
        self.writes = writes and folder is not None
        self._shards: list[Shard] = []
        self._known: dict[Stamp, tuple[int, int]] | None = None
        self._outdated = self._vanished = False
        self._new: dict[Stamp, EncodedImages] = {}
        self._bytes = 0
        self.look()

    def look(self) -> None:
        """Sees what is in the folder now."""
        for _ in range(_LOOKS):
            self._vanished = False
            self._look()
            if not self._vanished:
                break

    def _look(self) -> None:
        names: list[str] = []
        if self._folder is not None:
            with suppress(OSError):
                names = sorted(name for name in os.listdir(self._folder) if name.endswith(_RECORD) and name[0] != ".")
        self._outdated = False
        found = [self._read(self._folder / name) for name in names] if self._folder else []
        self._shards, self._known = [shard for shard in found if shard is not None], None
        if self._outdated:
            logger.info("%s: is of another version of the code or the model, and is computed anew", self._folder)

    def known(self) -> dict[Stamp, tuple[int, int]]:
        """Shard and row of every picture whose features are there."""
        if self._known is None:
            self._known = {
                stamp: (number, row)
                for number, shard in enumerate(self._shards)
                for row, stamp in enumerate(shard.pictures)
            }
        return self._known

    def images(self, at: Iterable[tuple[int, int]]) -> StoredImages:
        """Features of at least one picture, by its place in `known`."""
        places = torch.tensor(list(at), dtype=torch.int32)
        has_part = self._shards[int(places[0, 0])].tensor("part") is not None
        rows = StoredRows(self._shards, "part", places) if has_part else None
        return StoredImages(StoredRows(self._shards, "whole", places), rows)

    def lacks(self, wanted: Iterable[Stamp]) -> bool:
        """Whether there is a picture whose features are not there."""
        known = self.known()
        return any(stamp not in known for stamp in wanted)

    def is_worn(self, wanted: Iterable[Stamp]) -> bool:
        """Whether a shard has more pictures that are not wanted than such that are."""
        wanted = set(wanted)
        return any(2 * _live(shard, wanted) < len(shard.pictures) for shard in self._shards)

    # ------------------------------------------------------------------ writing, under the folder's lock

    def add(self, picture: Stamp, encoded: EncodedImages) -> None:
        """Takes the features of one picture, (D,) and (N, D); a shard is written when there are enough for one."""
        part = None if encoded.part is None else encoded.part.half()
        self._new[picture] = EncodedImages(encoded.whole, part)
        self._bytes += encoded.whole.nbytes + (0 if part is None else part.nbytes)
        if self._bytes >= _SHARD_BYTES:
            self._flush()

    def tidy(self, wanted: Iterable[Stamp]) -> None:
        """Writes what was added, with what small and worn shards hold of the pictures that are wanted, and drops those."""
        wanted = set(wanted)
        old = [shard for shard in self._shards if self.writes and self._is_small(shard, _live(shard, wanted))]
        for shard in old:
            whole, part = shard.tensor("whole"), shard.tensor("part")
            assert whole is not None
            for row, stamp in enumerate(shard.pictures):
                if stamp in wanted:
                    self.add(stamp, EncodedImages(whole[row].clone(), None if part is None else part[row].clone()))
        self._flush()
        if self.writes and self._folder is not None:
            self._shards, self._known = [shard for shard in self._shards if shard not in old], None
            self._clear(self._folder)

    def _is_small(self, shard: Shard, live: int) -> bool:
        size = shard.place.stat().st_size if isinstance(shard.place, Path) else 0
        return 2 * live < len(shard.pictures) or 2 * live * size < _SHARD_BYTES * len(shard.pictures)

    def _flush(self) -> None:
        if not self._new:
            return
        tensors = {"whole": torch.stack([row.whole for row in self._new.values()])}
        if parts := [row.part for row in self._new.values() if row.part is not None]:
            tensors["part"] = torch.stack(parts)
        self._shards.append(self._written(list(self._new), tensors))
        self._new, self._bytes, self._known = {}, 0, None

    def _clear(self, folder: Path) -> None:
        """Removes the shards that were dropped, and what killed processes have left."""
        kept = {shard.place.stem for shard in self._shards if isinstance(shard.place, Path)}
        for name in sorted(os.listdir(folder)):  # records first, as their ending is
            path = folder / name
            if path.suffix in (_FEATURES, _RECORD) and path.stem not in kept:
                with suppress(OSError):  # a folder is somebody's
                    path.unlink()

    def _written(self, pictures: list[Stamp], tensors: dict[str, Tensor]) -> Shard:
        if not self.writes or self._folder is None:
            return Shard(pictures, tensors)
        path = self._folder / f"{len(self._shards):05}-{uuid.uuid4().hex[:8]}{_FEATURES}"
        try:
            # Not `save_file`: a kill would leave a file of another name, and what it writes others may not read.
            with replacing(path) as temporary, temporary.open("wb") as file:
                file.write(save(tensors))
                file.flush()
                os.fsync(file)  # before the record, which vouches for it
            facts = {
                "key": self._key,
                "pictures": pictures,
                "features": _features_digest(tensors),
                "stamp": _stamp(path),
            }
            write_text(path.with_suffix(_RECORD), json.dumps({**facts, "digest": _digest(facts)}))
        except (SafetensorError, OSError) as error:
            logger.warning("%s: features are not kept (%s)", path, error)
            self.writes = False
            with suppress(OSError):
                path.unlink(missing_ok=True)  # without a record it would take room that is short, for nothing
            return Shard(pictures, tensors)
        return Shard(pictures, path)

    def _read(self, record: Path) -> Shard | None:
        path = record.with_suffix(_FEATURES)
        try:
            facts = json.loads(record.read_text(encoding="utf-8"))
            if facts.pop("digest") != _digest(facts):
                raise ValueError("its content is not what was written")
            if facts["key"] != self._key:
                self._outdated = True
                return None
            path.open("rb").close()
            # Gigabytes are not read again to see that they are the same.
            if _stamp(path) != facts["stamp"] and _features_digest(load_file(path)) != facts["features"]:
                raise ValueError("its features are not what was written")
            return Shard([(name, size, changed) for name, size, changed in facts["pictures"]], path)
        except (SafetensorError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
            if not os.path.lexists(record):  # another process has put it together with others since it was listed
                self._vanished = True
                return None
            logger.warning("%s: is damaged (%s) and is computed anew", record, error)
            return None


def _live(shard: Shard, wanted: set[Stamp]) -> int:
    return sum(stamp in wanted for stamp in shard.pictures)


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _features_digest(tensors: dict[str, Tensor]) -> str:
    return tensors_digest(sorted(tensors.items()))


def _digest(facts: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
