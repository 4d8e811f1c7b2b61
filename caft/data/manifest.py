"""Tars of one shard: their canonical form, their members' offsets, and the record of a corpus' shards."""

import hashlib
import io
import tarfile
from pathlib import Path
from typing import NamedTuple

from caft.errors import ManifestError
from caft.storage import replacing

_BLOCK = 512


class Member(NamedTuple):
    """A file in a tar: its name, where its bytes start, how many there are."""

    name: str
    offset: int
    size: int


def members(path: Path) -> list[Member]:
    """Files of a tar in their order.

    Raises:
        ManifestError: It is no whole tar.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            found = [Member(m.name, m.offset_data, m.size) for m in tar if m.isfile()]
    except (OSError, tarfile.TarError, EOFError) as error:
        raise ManifestError(f"{path}: is no whole tar ({error})") from None
    if found and found[-1].offset + found[-1].size > path.stat().st_size:
        raise ManifestError(f"{path}: ends inside the member {found[-1].name}")
    return found


def canonicalise(path: Path) -> None:
    """Rewrites a tar with its members sorted by name and without times.

    img2dataset writes members in the order in which downloads end. Only a fixed order keeps offsets true that other
    files store when a shard is fetched again, and gives two clean runs the same training order.

    Raises:
        ManifestError: It is no whole tar.
    """
    names = [member.name for member in members(path)]
    with path.open("rb") as file:
        first = file.read(_BLOCK)
    # A time of zero in the first header, and no extended header before it, is what this function leaves.
    if names == sorted(names) and first[156:157] == b"0" and int(first[136:148].strip(b"\0 ") or b"1", 8) == 0:
        return
    with replacing(path) as temporary:
        with tarfile.open(path, "r:") as source, tarfile.open(temporary, "w:", format=tarfile.USTAR_FORMAT) as target:
            for member in sorted((m for m in source if m.isfile()), key=lambda m: m.name):
                content = source.extractfile(member)
                assert content is not None
                clean = tarfile.TarInfo(member.name)
                clean.size = member.size
                target.addfile(clean, io.BytesIO(content.read()))


def fingerprint(rows: list[tuple[int, str]]) -> str:
    """SHA-256 over sorted (row_id, sha256 of the downloaded bytes), whatever their order."""
    digest = hashlib.sha256()
    for row_id, checksum in sorted(rows):
        digest.update(f"{row_id} {checksum}\n".encode())
    return digest.hexdigest()
