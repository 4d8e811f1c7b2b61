"""Work folders of stages that a killed run resumes, and their move into place."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caft.locking import locked
from caft.storage import replacing


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
