"""What a stage's result follows from, and work folders that a killed run resumes, moved into place at the end."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caft.digests import file_digest
from caft.errors import DataError
from caft.locking import locked
from caft.storage import replacing


def content_fingerprint(*paths: Path) -> str:
    """SHA-256 over the names and bytes of some files, and of the tables in some folders.

    Raises:
        DataError: A file is missing, or a folder is missing or empty.
    """
    result = hashlib.sha256()
    for path in paths:
        files = [path] if path.is_file() else sorted(path.glob("[0-9]*.parquet"))
        if not files:
            raise DataError(f"{path}: not found, or holds no table; run the stage that writes it (`dvc repro`)")
        for file in files:
            result.update(f"{file.name} {file_digest(file)}\n".encode())
    return result.hexdigest()


@contextmanager
def resumable(folder: Path, made_from: str, doing: str) -> Iterator[Path]:
    """Gives the work folder of a stage, with what a killed run of the same input has finished; locked for the block.

    It lies outside DVC, which removes a stage's outs before it runs. Work on other input is removed.

    Args:
        folder: Holds the work folder.
        made_from: Everything that the result follows from.
        doing: What is done there, for the log.
    """
    work = folder / hashlib.sha256(made_from.encode()).hexdigest()[:16]
    with locked(folder, doing):
        for other in folder.glob("[0-9a-f]*"):
            if other != work:
                shutil.rmtree(other)
        yield work


def move_to(out: Path, work: Path) -> None:
    """Moves a finished work folder to where it belongs, at once and whole, also from another file system."""
    with replacing(out) as temporary:
        shutil.move(work, temporary)
