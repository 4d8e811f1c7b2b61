"""A folder of pictures, each encoded once by a model: what `caft search` looks through."""

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from caft.digests import code_digest
from caft.errors import DataError
from caft.locking import locked
from caft.model.arguments import whole_number
from caft.model.encoding import EncodedImages, encode_cropped
from caft.model.folder import list_pictures
from caft.model.shelf import Shelf
from caft.model.stored import Stamp, StoredImages
from caft.network.caft import CAFT
from caft.params import arithmetic
from caft.progress import track

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gallery:
    """Pictures of a folder and what a model sees in them.

    Attributes:
        files: Sorted by path.
        features: Of the files, in their order, read from disk as they are needed.
        damaged: What is no picture or folder that can be read, with the reason.
        other: How many files were left out for their ending, by ending.
    """

    files: list[Path]
    features: StoredImages
    damaged: dict[Path, str] = field(default_factory=dict)
    other: dict[str, int] = field(default_factory=dict)

    @property
    def encoded(self) -> EncodedImages:
        """All features in memory, as tensors."""
        return self.features.in_memory()


def read_gallery(network: CAFT, identity: str, folder: Path, batch: int = 64) -> Gallery:
    """Encodes the pictures of a folder and the folders in it, except those that were encoded before.

    Which files are looked at is said at `caft.model.folder.list_pictures`; what is left out is logged, pictures that
    cannot be read one by one with the reason, other files by their ending.

    Features are kept in the user's cache (`XDG_CACHE_HOME`, else `~/.cache`), a folder for each folder and model, in shards
    (`caft.model.shelf`): whole-level features in float32, segments in half precision, 68 kB per picture for the base model
    and 4 for the small one. New and changed pictures are encoded; those that are gone are passed over, and dropped with
    the next change. If the work is interrupted, what is done is kept; if it is killed, all but the last shard. While one
    process encodes, others that would as well wait for it. Another version of this package encodes all pictures anew, as
    does another `identity`, which stands for the weights. A cache that cannot be written is said before the work, which is
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
    stamps = {path: (path.relative_to(folder).as_posix(), *status) for path, status in listed.pictures.items()}
    if listed.other:
        logger.log(logging.WARNING if listed.could_be_opened else logging.INFO, "left out: %s", listed.counts())
    if not stamps:
        _report(damaged)
        found = f"; found {listed.counts()}" if listed.other else ""
        raise DataError(f"{folder}: no picture in it or below{found}; give a folder that holds pictures")
    cache, may_write = _cache_folder(folder, identity)
    # Another version of the code may see something else, and another arithmetic other digits.
    key = f"{identity} {arithmetic.current()} {code_digest([__name__])}"
    shelf = Shelf(cache, key, may_write)
    if shelf.lacks(stamps.values()) or shelf.is_worn(stamps.values()):
        with _only_builder(shelf, cache, folder):
            _encode_new(network, shelf, stamps, batch, damaged)
    _report(damaged)
    known = shelf.known()
    files = [path for path, stamp in stamps.items() if stamp in known]
    if not files:
        raise DataError(f"{folder}: none of its {len(stamps)} pictures can be read")
    features = shelf.images(known[stamps[path]] for path in files)
    return Gallery(files, features, damaged, dict(listed.other))


@contextmanager
def _only_builder(shelf: Shelf, cache: Path | None, folder: Path) -> Iterator[None]:
    """Keeps other processes from writing, and sees what they wrote before; where that cannot be, keeps nothing."""
    with ExitStack() as stack:
        if cache is not None and shelf.writes:
            try:
                stack.enter_context(locked(cache, f"encoding the pictures of {folder}"))
            except (OSError, NotImplementedError) as error:  # no right to, no room, or a disk without locks
                logger.warning("features are not kept (%s); set XDG_CACHE_HOME to a folder on another disk", error)
                shelf.writes = False
            else:
                shelf.look()
                with suppress(OSError):  # of an earlier version, which kept all in one file
                    cache.with_suffix(".safetensors").unlink()
        yield


def _encode_new(
    network: CAFT, shelf: Shelf, stamps: Mapping[Path, Stamp], batch: int, damaged: dict[Path, str]
) -> None:
    """Puts on the shelf what it has not, and puts its small shards together."""
    known = shelf.known()
    new = [path for path, stamp in stamps.items() if stamp not in known]
    added = False
    try:
        for first in track(range(0, len(new), batch), f"batches of {len(new)} new pictures"):
            for path, encoded in _encode(network, new[first : first + batch], damaged):
                shelf.add(stamps[path], encoded)
                added = True
    finally:
        if added or shelf.is_worn(stamps.values()):
            shelf.tidy(stamps.values())


def _report(damaged: dict[Path, str]) -> None:
    for path, reason in damaged.items():
        logger.warning("left out: %s", reason if str(path) in reason else f"{path}: {reason}")


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
        if part is not None and not part.half().isfinite().all():
            damaged[path] = (
                f"its features reach {part.abs().max():g}, and half precision, in which they are kept, 65504"
            )
        else:
            yield path, EncodedImages(encoded.whole[number], part)


# ---------------------------------------------------------------------- the cache


def _cache_folder(folder: Path, identity: str) -> tuple[Path | None, bool]:
    """Where features of a folder are kept, and whether they can be: without a place, or a right to write, a warning."""
    try:
        root = _cache_root() / "caft"
    except RuntimeError as error:  # no home
        logger.warning("features are not kept (%s); set XDG_CACHE_HOME to a folder that you may write to", error)
        return None, False
    place = root / hashlib.sha256(os.fsencode(folder.resolve()) + f"\n{identity}".encode()).hexdigest()[:16]
    try:
        root.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=root).close()
    except OSError as error:
        logger.warning("features are not kept (%s); set XDG_CACHE_HOME to a folder that you may write to", error)
        return place, False
    return place, True


def _cache_root() -> Path:
    given = os.environ.get("XDG_CACHE_HOME", "")
    if given and not os.path.isabs(given):  # which the XDG specification says to ignore
        logger.warning("XDG_CACHE_HOME is %r, which is no absolute path, and is ignored", given)
        given = ""
    return Path(given) if given else Path.home() / ".cache"
