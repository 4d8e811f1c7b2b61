"""Seals of files in a run's folder: size and SHA-256, written when a file is whole, looked at before it is taken.

Run folders lie on disks that are cleaned, filled and copied by others, so that a file is there says nothing.
"""

import json
from pathlib import Path

from caft.digests import file_digest
from caft.storage import write_json


def put(*paths: Path) -> None:
    """Writes a seal beside each file."""
    for path in paths:
        write_json(_seal(path), {"bytes": path.stat().st_size, "sha256": file_digest(path)})


def fault(path: Path) -> str | None:
    """What is wrong with a file, if anything is."""
    if not path.is_file():
        return f"{path} is not there"
    try:
        seal = json.loads(_seal(path).read_text())
        size, digest = seal["bytes"], seal["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"{path} has no whole {_seal(path).name}, so it may not have been written to its end"
    if path.stat().st_size != size:
        return f"{path} has {path.stat().st_size} bytes, {size} were written"
    if file_digest(path) != digest:
        return f"{path} holds other bytes than were written (its SHA-256 differs)"
    return None


def _seal(path: Path) -> Path:
    return path.with_name(f"{path.name}.seal")
