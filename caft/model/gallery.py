"""A folder of pictures, each encoded once by a model: what `caft search` looks through."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from caft.digests import code_digest
from caft.errors import DataError
from caft.model.encoding import EncodedImages, encode_cropped
from caft.model.kept import read_kept, write_kept
from caft.network.caft import CAFT
from caft.params import arithmetic
from caft.progress import track

logger = logging.getLogger(__name__)

ENDINGS = frozenset({".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
# A file is the one that was encoded if its name, size and time of change are the same.
_Stamp = tuple[str, int, int]


@dataclass(frozen=True)
class Gallery:
    """Pictures of a folder and what a model sees in them.

    Attributes:
        files: Sorted by path.
        encoded: Features of the files, in their order.
        damaged: What is no picture that can be read, with the reason.
    """

    files: list[Path]
    encoded: EncodedImages
    damaged: dict[Path, str] = field(default_factory=dict)


def read_gallery(network: CAFT, identity: str, folder: Path, batch: int = 64) -> Gallery:
    """Encodes the pictures of a folder and the folders in it, except those that were encoded before.

    Features are kept in the user's cache (`XDG_CACHE_HOME`, else `~/.cache`), one file for each folder and model: for
    the base model 130 kB per picture. New and changed pictures are encoded; deleted ones are dropped. If the work is
    interrupted, what is done is kept. Another version of this package encodes all pictures anew, as does
    another `identity`, which stands for the weights.

    Raises:
        DataError: There is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give one that holds pictures")
    stamps = {path: _stamp(path, folder) for path in sorted(_pictures(folder))}
    if not stamps:
        raise DataError(f"{folder}: no picture in it or below; looked for {', '.join(sorted(ENDINGS))}")
    cache = _cache_file(folder, identity)
    # Another version of the code may see something else, and another arithmetic other digits.
    key = f"{identity} {arithmetic.current()} {code_digest([__name__])}"
    rows = _read(cache, key)
    known = {stamp: rows[stamp] for stamp in stamps.values() if stamp in rows}
    new = [path for path, stamp in stamps.items() if stamp not in known]
    damaged: dict[Path, str] = {}
    try:
        for first in track(range(0, len(new), batch), f"batches of {len(new)} new pictures"):
            for path, row in _encode(network, new[first : first + batch], damaged):
                known[stamps[path]] = row
    finally:
        if new or len(known) < len(rows):
            _write(cache, key, known)
    for path, reason in damaged.items():
        logger.warning("left out: %s", reason if str(path) in reason else f"{path}: {reason}")
    files = [path for path, stamp in stamps.items() if stamp in known]
    if not files:
        raise DataError(f"{folder}: none of its {len(stamps)} pictures can be read")
    return Gallery(files, _stacked([known[stamps[path]] for path in files]), damaged)


def _pictures(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (
            Path(place, name) for name in names if Path(name).suffix.lower() in ENDINGS and not name.startswith(".")
        )


def _stamp(path: Path, folder: Path) -> _Stamp:
    status = path.stat()
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


def _cache_file(folder: Path, identity: str) -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(f"{folder.resolve()}\n{identity}".encode()).hexdigest()[:16]
    return root / "caft" / f"{name}.safetensors"


def _read(cache: Path, key: str) -> dict[_Stamp, EncodedImages]:
    """Features by picture; none if there is no cache, or a damaged one, or one of other code."""
    if (kept := read_kept(cache, key)) is None:
        return {}
    tensors, facts = kept
    whole, part = tensors["whole"], tensors.get("part")
    return {
        (name, size, changed): EncodedImages(whole[row], None if part is None else part[row])
        for row, (name, size, changed) in enumerate(json.loads(facts["pictures"]))
    }


def _write(cache: Path, key: str, rows: dict[_Stamp, EncodedImages]) -> None:
    if rows:
        encoded = _stacked(list(rows.values()))
        write_kept(cache, key, {"whole": encoded.whole, "part": encoded.part}, {"pictures": json.dumps(list(rows))})


def _stacked(rows: list[EncodedImages]) -> EncodedImages:
    parts: list[Tensor] = [row.part for row in rows if row.part is not None]
    return EncodedImages(torch.stack([row.whole for row in rows]), torch.stack(parts) if parts else None)
