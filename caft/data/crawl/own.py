"""Own picture files that changed since they were read: noticed by size and time, without reading them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.request import url2pathname

import pyarrow as pa

from caft.data.crawl.manifest import notes_folder
from caft.storage import write_json

State = tuple[int, int]  # size in bytes, time of change in nanoseconds


def look_at(urls: Iterable[str], home: Path) -> dict[str, State | None]:
    """State of each file by its address; None where none is there."""
    return {url: _state(home / url2pathname(url.removeprefix("file:"))) for url in urls}


def _state(path: Path) -> State | None:
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return state.st_size, state.st_mtime_ns


def read_states(folder: Path) -> dict[str, State | None]:
    """What was noted of the files when they were last read."""
    path = notes_folder(folder) / "states.json"
    noted = json.loads(path.read_text()) if path.exists() else {}
    return {url: state and (state[0], state[1]) for url, state in noted.items()}


def note_states(folder: Path, states: Mapping[str, State | None]) -> None:
    """Notes them."""
    write_json(notes_folder(folder) / "states.json", dict(states))


def state_of(rows: pa.Table, home: Path) -> str | None:
    """A digest of name, size and time of change of the files that some rows name.

    None if not one of them is there, be it that rows have other addresses, or that a disk is not: then what was read is kept.

    Args:
        rows: With a column url, in which files are `file:NAME`.
        home: Folder from which the names are taken.
    """
    digest, found = hashlib.sha256(), 0
    for url in sorted(rows["url"].to_pylist()):
        if not url.startswith("file:"):
            continue
        try:
            state = (home / url2pathname(url.removeprefix("file:"))).stat()
        except (OSError, ValueError):
            digest.update(f"{url} is not there\n".encode())
        else:
            digest.update(f"{url} {state.st_size} {state.st_mtime_ns}\n".encode())
            found += 1
    return digest.hexdigest() if found else None


def seen_state(folder: Path, name: str) -> str | None:
    """What `note_state` has noted for a shard."""
    path = _path(folder, name)
    return str(json.loads(path.read_text())["state"]) if path.exists() else None


def note_state(folder: Path, name: str, state: str) -> None:
    """Notes the state of a shard's files; before they are read, so that no later change can be missed."""
    write_json(_path(folder, name), {"state": state})


def _path(folder: Path, name: str) -> Path:
    return notes_folder(folder) / "files" / f"{name}.json"
