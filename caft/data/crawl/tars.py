"""Image shards as tar files in one canonical form, and where each member lies in them.

img2dataset writes members as downloads complete, with times in extended headers, so two runs never
give the same file. Here a tar is rewritten sorted by name, with plain headers and no times: then
equal pictures give equal bytes, and offsets stay true when a lost shard is fetched again.
"""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from caft.errors import DataError
from caft.pictures.formats import endings, to_install
from caft.pictures.litter import is_litter
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

_AGAIN = "take it from its source again"
_PACKERS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class Member(NamedTuple):
    """A file in a tar: its name, where its content begins, and its length in bytes."""

    name: str
    offset: int
    size: int


class Held(NamedTuple):
    """What a tar holds.

    Attributes:
        files: Its plain files, in its order.
        others: Names of its links, devices and sparse files, whose content is elsewhere, nothing, or in pieces.
        repeated: Names that several of the files have.
        more: Something follows its end, which no program reads, as after `cat a.tar b.tar`.
    """

    files: list[Member]
    others: list[str]
    repeated: list[str]
    more: bool


class Chosen(NamedTuple):
    """What of a tar's files is used.

    Attributes:
        pictures: By key, in the tar's order.
        notes: The JSON of each key.
        beside: How many others could be the picture of their key, too.
        repeated: How many keys have no picture because a name is there twice.
    """

    pictures: dict[str, Member]
    notes: dict[str, Member]
    beside: int
    repeated: int


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


def chosen(held: Held) -> Chosen:
    """Of the members of a tar, the picture of each key and the JSON beside it.

    Where a name is there twice, nobody can say which belongs to which: that key has no picture.
    """
    twice = {parts(name)[0] for name in held.repeated if _rank(parts(name)[1]) or parts(name)[1] == "json"}
    best: dict[str, tuple[tuple[int, str], Member]] = {}
    notes: dict[str, Member] = {}
    candidates = 0
    for member in held.files:
        key, ending = parts(member.name)
        if key in twice or is_litter(member.name.rpartition("/")[2]):
            continue
        if ending == "json":
            notes.setdefault(key, member)
        elif rank := _rank(ending):
            candidates += 1
            if key not in best or rank < best[key][0]:
                best[key] = rank, member
    pictures = sorted((member.offset, key) for key, (_, member) in best.items())
    return Chosen({key: best[key][1] for _, key in pictures}, notes, candidates - len(best), len(twice))


def pictures(path: Path) -> dict[str, Member]:
    """Pictures of a tar of any form by their keys, in its order.

    Raises:
        DataError: As `scan`.
    """
    try:
        held = Held(list(members(path)), [], [], False)
    except DataError:
        held = scan(path)
    return chosen(held).pictures


def any_members(path: Path) -> list[Member]:
    """Files of an uncompressed tar of any form, in its order; slower than `members`.

    Raises:
        DataError: The file is cut short or is no tar, or holds something other than folders and plain, unique files.
    """
    held = scan(path)
    if odd := [*held.others, *held.repeated]:
        raise DataError(f"{path}: {odd[0]} is not a plain file, or is there twice")
    return held.files


def scan(path: Path) -> Held:
    """What an uncompressed tar of any form holds; of its folders' own entries, nothing.

    Raises:
        DataError: The file is cut short or damaged, or is no tar.
    """
    files: list[Member] = []
    others = []
    with path.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        try:
            with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="backslashreplace") as tar:
                for info in tar:
                    if info.size < 0:  # tarfile would go back, and for ever
                        raise tarfile.ReadError(f"{info.name[:60]!r} has {info.size} bytes")
                    if info.isreg() and not info.issparse():
                        files.append(Member(info.name, info.offset_data, info.size))
                    elif not info.isdir():  # as `tar cf x.tar folder` writes it
                        others.append(info.name)
                end = tar.offset
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            raise DataError(f"{path}: is no whole tar ({error}); {_remedy(file)}") from error
        # tarfile takes a header that is cut short or damaged for the end.
        if end + 2 * BLOCK > total:
            raise DataError(f"{path}: is no whole tar (its end is missing); {_AGAIN}")
        if any(_read_at(file, end, BLOCK)):
            raise DataError(f"{path}: is no whole tar (at byte {end} is neither a header nor its end); {_AGAIN}")
        counts = Counter(member.name for member in files)
        return Held(files, others, [name for name, count in counts.items() if count > 1], _has_more(file, end))


def _has_more(file: BinaryIO, end: int) -> bool:
    """Whether anything but zeros follows the end of a tar."""
    file.seek(end)
    return any(any(block) for block in iter(lambda: file.read(1 << 20), b""))


def _remedy(file: BinaryIO) -> str:
    start = _read_at(file, 0, 6)
    packer = next((name for sign, name in _PACKERS.items() if start.startswith(sign)), None)
    return f"it is compressed by {packer}, and pictures are read in their places: unpack it" if packer else _AGAIN


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
