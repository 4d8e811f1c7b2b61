"""Own picture files that changed since they were read: noticed by size and time, and only then by their content."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.request import url2pathname

import pyarrow as pa
import pyarrow.parquet as pq

from caft.data.crawl.manifest import notes_folder
from caft.data.tables.meanings import schema
from caft.digests import file_digest
from caft.storage import replacing, write_json

logger = logging.getLogger(__name__)
FILE = "file:"  # what addresses of own files begin with
State = tuple[int, int]  # size in bytes, and time of change in nanoseconds
_TABLE = schema([("url", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64())])


def name_of(url: str) -> str:
    """The path of an own file as its table names it; another address as it is."""
    return url2pathname(url.removeprefix(FILE)) if url.startswith(FILE) else url


def look_at(urls: Iterable[str], home: Path) -> dict[str, State | None]:
    """Size and time of change of own files, none of which is opened.

    Args:
        urls: Of them, only those that name files (`file:NAME`) are looked at.
        home: Folder from which the names are taken.

    Returns:
        By address; None for what is not there, is no file, or may not be read.
    """
    found: dict[str, State | None] = {}
    for url in urls:
        if url.startswith(FILE):
            path = home / name_of(url)
            try:
                state = path.stat()
                readable = stat.S_ISREG(state.st_mode) and os.access(path, os.R_OK)
            except (OSError, ValueError):
                readable = False
            found[url] = (state.st_size, state.st_mtime_ns) if readable else None
    return found


def read_states(folder: Path) -> dict[str, State | None]:
    """What was noted of each own file when it was last read into a folder of image shards; empty if nothing was."""
    path = _path(folder)
    if not path.exists():
        return {}
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid):  # damaged: all files are compared by their content, and noted anew
        return {}
    columns = (table[name].to_pylist() for name in _TABLE.names)
    return {url: None if size is None else (size, time) for url, size, time in zip(*columns, strict=True)}


def note_states(folder: Path, states: Mapping[str, State | None]) -> None:
    """Notes the states of all own files; of each before it is read, so that no later change can be missed."""
    sizes, times = ([state and state[place] for state in states.values()] for place in (0, 1))
    arrays = [pa.array(column, field.type) for column, field in zip((list(states), sizes, times), _TABLE, strict=True)]
    with replacing(_path(folder)) as temporary:
        pq.write_table(pa.table(arrays, schema=_TABLE), temporary, compression="zstd")


def changed(folder: Path, held: Mapping[str, str | None], home: Path) -> list[str]:
    """Own files that are not as they were when they were read; of those with the same content the new state is noted.

    Where the table lies in another folder than it did, all files are read: what an archive or a tool has unpacked may have one
    time and one size everywhere.

    Args:
        folder: Folder of the shards.
        held: The SHA-256 of the picture that was read, by address; None for a row without a picture.
        home: Folder from which the names are taken.

    Returns:
        Their addresses; none if not one of the named files is there, as when a disk is not.
    """
    noted, seen = read_states(folder), look_at(held, home)
    moved = _home(folder).exists() and json.loads(_home(folder).read_text()) != _place(home)
    other = [url for url, state in seen.items() if moved or url not in noted or noted[url] != state]
    if other and not any(seen.values()) and any(held.values()):
        logger.warning("%s: none of the %d files of the table is there; what was read of them is kept", home, len(seen))
        return []
    found, same = [], {}
    for url in other:
        state, digest = seen[url], held[url]
        if _is_as_read(home / name_of(url), state, digest) or (state, digest, noted.get(url)) == (None, None, None):
            same[url] = state
        else:
            found.append(url)
    if same:
        note_states(folder, noted | same)
    return found


def changes(noted: Mapping[str, State | None], found: Mapping[str, State | None]) -> frozenset[str]:
    """A digest of each change of a file's state, of files that were noted."""
    lines = (f"{url} {noted[url]} {state}" for url, state in found.items() if url in noted and state != noted[url])
    return frozenset(hashlib.sha256(line.encode("utf-8", "surrogateescape")).hexdigest()[:16] for line in lines)


def note_home(folder: Path, held: Iterable[str], home: Path) -> None:
    """Notes from which folder all own files were read, if one of them is there."""
    if any((home / name_of(url)).exists() for url in held):
        write_json(_home(folder), _place(home))


def _is_as_read(path: Path, state: State | None, digest: str | None) -> bool:
    if state is None or digest is None:
        return False
    try:
        return file_digest(path) == digest
    except OSError:
        return False


def _place(home: Path) -> str:
    """A folder's name, in a checkout one that is the same wherever the checkout lies, and in all of its copies."""
    checkout = Path.cwd().resolve()
    return str(home.relative_to(checkout) if home.is_relative_to(checkout) else home)


def _home(folder: Path) -> Path:
    return notes_folder(folder) / "home.json"


def _path(folder: Path) -> Path:
    return notes_folder(folder) / "files.parquet"
