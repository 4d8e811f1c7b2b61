"""A folder of pictures, each encoded once by a model: what `caft search` looks through."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from caft.digests import code_digest
from caft.errors import DataError
from caft.model.arguments import whole_number
from caft.model.encoding import EncodedImages, encode_cropped
from caft.model.folder import list_pictures
from caft.model.kept import read_kept, write_kept
from caft.network.caft import CAFT
from caft.params import arithmetic
from caft.progress import track

logger = logging.getLogger(__name__)

# A file is the one that was encoded if its name, size and time of change are the same.
_Stamp = tuple[str, int, int]


@dataclass(frozen=True)
class Gallery:
    """Pictures of a folder and what a model sees in them.

    Attributes:
        files: Sorted by path.
        encoded: Features of the files, in their order.
        damaged: What is no picture or folder that can be read, with the reason.
        other: How many files were left out for their ending, by ending.
    """

    files: list[Path]
    encoded: EncodedImages
    damaged: dict[Path, str] = field(default_factory=dict)
    other: dict[str, int] = field(default_factory=dict)


def read_gallery(network: CAFT, identity: str, folder: Path, batch: int = 64) -> Gallery:
    """Encodes the pictures of a folder and the folders in it, except those that were encoded before.

    Which files are looked at is said at `caft.model.folder.list_pictures`; what is left out is logged, pictures that
    cannot be read one by one with the reason, other files by their ending.

    Features are kept in the user's cache (`XDG_CACHE_HOME`, else `~/.cache`), one file for each folder and model: for
    the base model 130 kB per picture. New and changed pictures are encoded; deleted ones are dropped. If the work is
    interrupted, what is done is kept. Another version of this package encodes all pictures anew, as does
    another `identity`, which stands for the weights. A cache that cannot be written is said before the work, which is
    then done without.

    Args:
        network: Encodes them.
        identity: Stands for the network's weights.
        folder: Is searched.
        batch: Pictures at once, from 1.

    Raises:
        DataError: There is no such folder, or no picture in it that can be read.
        ArgumentError: `batch` is no whole number from 1.
    """
    batch = whole_number(batch, "batch")
    listed = list_pictures(folder)
    damaged = dict(listed.unreadable)
    stamps = {path: _stamp(path, status, folder) for path, status in listed.pictures.items()}
    if listed.other:
        logger.log(logging.WARNING if listed.could_be_opened else logging.INFO, "left out: %s", listed.counts())
    if not stamps:
        _report(damaged)
        found = f"; found {listed.counts()}" if listed.other else ""
        raise DataError(f"{folder}: no picture in it or below{found}; give a folder that holds pictures")
    cache, may_write = _cache_file(folder, identity)
    # Another version of the code may see something else, and another arithmetic other digits.
    key = f"{identity} {arithmetic.current()} {code_digest([__name__])}"
    rows = _read(cache, key)
    known = {stamp: rows[stamp] for stamp in stamps.values() if stamp in rows}
    new = [path for path, stamp in stamps.items() if stamp not in known]
    try:
        for first in track(range(0, len(new), batch), f"batches of {len(new)} new pictures"):
            for path, row in _encode(network, new[first : first + batch], damaged):
                known[stamps[path]] = row
    finally:
        if may_write and (new or len(known) < len(rows)):
            _write(cache, key, known)
    _report(damaged)
    files = [path for path, stamp in stamps.items() if stamp in known]
    if not files:
        raise DataError(f"{folder}: none of its {len(stamps)} pictures can be read")
    encoded = _stacked([known[stamps[path]] for path in files])
    return Gallery(files, encoded, damaged, dict(listed.other))


def _report(damaged: dict[Path, str]) -> None:
    for path, reason in damaged.items():
        logger.warning("left out: %s", reason if str(path) in reason else f"{path}: {reason}")


def _stamp(path: Path, status: os.stat_result, folder: Path) -> _Stamp:
    return path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns


def _encode(network: CAFT, paths: Sequence[Path], damaged: dict[Path, str]) -> Iterator[tuple[Path, EncodedImages]]:
    """Features of each picture; where one of several cannot be read, they are taken one by one."""
    try:
        encoded = encode_cropped(network, paths, len(paths))
    except DataError as error:
        if len(paths) == 1:
            damaged[paths[0]] = str(error)
        else:
            for path in paths:
                yield from _encode(network, [path], damaged)
        return
    for number, path in enumerate(paths):
        part = None if encoded.part is None else encoded.part[number]
        yield path, EncodedImages(encoded.whole[number], part)


# ---------------------------------------------------------------------- the cache


def _cache_file(folder: Path, identity: str) -> tuple[Path | None, bool]:
    """Where features of a folder are kept, and whether they can be: without a place, or a right to write, a warning."""
    try:
        root = _cache_root() / "caft"
    except RuntimeError as error:  # no home
        logger.warning("features are not kept (%s); set XDG_CACHE_HOME to a folder that you may write to", error)
        return None, False
    name = hashlib.sha256(os.fsencode(folder.resolve()) + f"\n{identity}".encode()).hexdigest()[:16]
    try:
        root.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=root).close()
    except OSError as error:
        logger.warning("features are not kept (%s); set XDG_CACHE_HOME to a folder that you may write to", error)
        return root / f"{name}.safetensors", False
    return root / f"{name}.safetensors", True


def _cache_root() -> Path:
    given = os.environ.get("XDG_CACHE_HOME", "")
    if given and not os.path.isabs(given):  # which the XDG specification says to ignore
        logger.warning("XDG_CACHE_HOME is %r, which is no absolute path, and is ignored", given)
        given = ""
    return Path(given) if given else Path.home() / ".cache"


def _read(cache: Path | None, key: str) -> dict[_Stamp, EncodedImages]:
    """Features by picture; none if there is no cache, or a damaged one, or one of other code."""
    if cache is None or (kept := read_kept(cache, key)) is None:
        return {}
    tensors, facts = kept
    whole, part = tensors["whole"], tensors.get("part")
    return {
        (name, size, changed): EncodedImages(whole[row], None if part is None else part[row])
        for row, (name, size, changed) in enumerate(json.loads(facts["pictures"]))
    }


def _write(cache: Path | None, key: str, rows: dict[_Stamp, EncodedImages]) -> None:
    if rows and cache:
        encoded = _stacked(list(rows.values()))
        write_kept(cache, key, {"whole": encoded.whole, "part": encoded.part}, {"pictures": json.dumps(list(rows))})


def _stacked(rows: list[EncodedImages]) -> EncodedImages:
    parts: list[Tensor] = [row.part for row in rows if row.part is not None]
    return EncodedImages(torch.stack([row.whole for row in rows]), torch.stack(parts) if parts else None)
