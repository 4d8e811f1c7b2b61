"""Image shards as tar files in one canonical form, and where each member lies in them.

img2dataset writes members as downloads complete, with times in extended headers, so two runs never
give the same file. Here a tar is rewritten sorted by name, with plain headers and no times: then
equal pictures give equal bytes, and offsets stay true when a lost shard is fetched again.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from caft.errors import DataError
from caft.pictures.formats import endings, to_install
from caft.storage import replacing

BLOCK = 512
RECORD = 20 * BLOCK  # tars are padded with zeros to whole records
SIZE_FIELD = slice(124, 136)
# Of several files with one key, that with the first of these endings is the picture, and one of another kind of picture
# after all of them: a mask or a depth map beside it has an ending that loses nothing.
PICTURES = (
    *("jpg", "jpeg", "jpe", "jfif", "webp", "avif", "heic", "heif", "jp2", "j2k", "png", "gif", "bmp"),
    *("tif", "tiff", "ppm", "pgm", "pnm", "tga", "ico"),
)


class Member(NamedTuple):
    """A file in a tar: its name, where its content begins, and its length in bytes."""

    name: str
    offset: int
    size: int


def canonicalise(path: Path) -> None:
    """Rewrites a tar in canonical form, atomically; does nothing if it has that form already.

    Raises:
        DataError: The file is cut short or is no tar, or holds something other than plain, unique files.
    """
    try:
        for _ in members(path):
            pass
        return
    except DataError:
        pass  # not canonical, or damaged: reading it as any tar tells which
    found = any_members(path)
    with (
        path.open("rb") as source,
        replacing(path) as temporary,
        tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as target,
    ):
        for member in sorted(found):
            source.seek(member.offset)
            target.addfile(_info(member.name, member.size), source)


def members(path: Path) -> Iterator[Member]:
    """Yields the members of a canonical tar, in order; reads headers only.

    Raises:
        DataError: The file is not in canonical form down to its last byte.
    """
    with path.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        position, previous = 0, ""
        while True:
            header = _read_at(file, position, BLOCK)
            if header == bytes(BLOCK):
                break
            name = header[:100].rstrip(b"\0").decode("ascii", "replace")
            try:
                size = int(header[SIZE_FIELD].rstrip(b"\0 "), 8)
                plain = header == _header(name, size)
            except (ValueError, UnicodeError):
                plain = False
            if not plain or name <= previous:
                raise DataError(f"{path}: at byte {position} is no header of a canonical tar")
            yield Member(name, position + BLOCK, size)
            position += BLOCK + size + -size % BLOCK
            previous = name
        if total != _padded(position) or any(_read_at(file, position, total - position)):
            raise DataError(f"{path}: {total} bytes, expected {_padded(position)} for its members")


def parts(name: str) -> tuple[str, str]:
    """Key and ending of a member, taken apart at the last stop of its last part: `a/v1.0.JPG` is ("a/v1.0", "jpg")."""
    folder, slash, file = name.rpartition("/")
    key, _, ending = file.rpartition(".")
    return folder + slash + key, ending.lower()


@cache
def _rank(ending: str) -> tuple[int, str] | None:
    """Place of a picture's ending; None for other files. What only a plug-in opens is a picture without it, too, and lost."""
    if ending in PICTURES:
        return PICTURES.index(ending), ending
    known = f".{ending}" in endings() or to_install(f".{ending}")
    return (len(PICTURES), ending) if known else None


def chosen(found: Iterable[Member]) -> tuple[dict[str, Member], int]:
    """Of the members of a tar, the picture of each key, in the tar's order, and how many others could be one, too."""
    best: dict[str, tuple[tuple[int, str], Member]] = {}
    candidates = 0
    for member in found:
        key, ending = parts(member.name)
        if rank := _rank(ending):
            candidates += 1
            if key not in best or rank < best[key][0]:
                best[key] = rank, member
    pictures = sorted((member.offset, key) for key, (_, member) in best.items())
    return {key: best[key][1] for _, key in pictures}, candidates - len(best)


def pictures(path: Path) -> dict[str, Member]:
    """Pictures of a tar of any form by their keys, in its order.

    Raises:
        DataError: As `any_members`.
    """
    try:
        found: list[Member] = list(members(path))
    except DataError:
        found = any_members(path)
    return chosen(found)[0]


def any_members(path: Path) -> list[Member]:
    """Files of an uncompressed tar of any form, in its order; slower than `members`.

    Raises:
        DataError: The file is cut short or is no tar, or holds something other than folders and plain, unique files.
    """
    found: dict[str, Member] = {}
    try:
        with tarfile.open(path, "r:", encoding="utf-8", errors="backslashreplace") as tar:
            for info in tar:
                if info.isdir():
                    continue  # a folder's own entry, as `tar cf x.tar folder` writes it
                if not info.isreg() or info.name in found:
                    raise DataError(f"{path}: {info.name} is not a plain file, or is there twice")
                found[info.name] = Member(info.name, info.offset_data, info.size)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{path}: is no whole tar ({error})") from error
    # tarfile takes a header that is cut short for the end.
    end = max((member.offset + member.size + -member.size % BLOCK for member in found.values()), default=0)
    if path.stat().st_size < end + 2 * BLOCK:
        raise DataError(f"{path}: is no whole tar (its end is missing)")
    return list(found.values())


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)  # its defaults: mode 644, owner 0, time 0
    info.size = size
    return info


def _header(name: str, size: int) -> bytes:
    return _info(name, size).tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def _padded(length: int) -> int:
    """Length of a tar whose members take `length` bytes: with two empty blocks, in whole records."""
    return -(-(length + 2 * BLOCK) // RECORD) * RECORD


def _read_at(file: BinaryIO, position: int, length: int) -> bytes:
    file.seek(position)
    return file.read(length)
