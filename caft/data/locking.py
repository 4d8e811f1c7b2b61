"""Lets one process at a time work on a folder that several runs share."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path, doing: str) -> Iterator[None]:
    """Holds the lock of a folder for the block; if another process has it, waits and says so.

    The lock ends with the process that holds it, however that ends, so it never has to be removed by hand.

    Args:
        folder: Made if it does not exist.
        doing: What is done under the lock, for the log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            logger.warning("%s: another run is %s; waiting for it to end", folder, doing)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
