"""Lets one process at a time work on a folder that several runs share."""

import fcntl
import logging
import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caft.errors import LaunchError

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2


@contextmanager
def locked(folder: Path, doing: str, patience: float = math.inf) -> Iterator[None]:
    """Holds the lock of a folder for the block; if another process has it, waits and says so.

    The lock ends with the process that holds it, however that ends, so it never has to be removed by hand.

    Args:
        folder: Made if it does not exist.
        doing: What is done under the lock, for the log.
        patience: Seconds to wait at most.

    Raises:
        LaunchError: Another process still held the lock then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as file:
        begun = time.monotonic()
        while not _take(file.fileno()):
            holder = _holder(file.fileno())
            waited = time.monotonic() - begun
            if waited >= patience:
                raise LaunchError(f"{folder}: {holder} is {doing}; wait for it or end it, and run again")
            if waited < POLL_SECONDS:
                logger.warning("%s: %s is %s; waiting for it to end", folder, holder, doing)
            time.sleep(POLL_SECONDS)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> str:
    """Who wrote its name into the lock's file; it may be about to."""
    return os.pread(descriptor, 200, 0).decode("utf-8", "replace") or "another process"
