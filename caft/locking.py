"""Processes that share a folder, one at a time, and processes that end with another one."""

import logging
import math
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from caft.errors import LaunchError

logger = logging.getLogger(__name__)
_POLL_SECONDS = 0.2
_HOLDER = re.compile(r"process (\d+) on (.+)")


@contextmanager
def locked(folder: Path, doing: str, patience: float = math.inf, name: str = ".lock") -> Iterator[None]:
    """Holds the lock of a folder for the block; if another process has it, waits and says so.

    The operating system frees the lock when the process that holds it ends, however that ends, so it never has to be
    removed by hand.

    Args:
        folder: Made if it does not exist.
        doing: What is done under the lock, for the log.
        patience: Seconds to wait at most.
        name: Name of the lock file.

    Raises:
        LaunchError: Another process still held the lock after that time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # A soft lock, filelock's stand-in where a file system has no flock, would outlive a process that was killed.
    lock = FileLock(folder / name, poll_interval=_POLL_SECONDS, fallback_to_soft=False)
    holder = folder / f"{name}-holder"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if patience > 0:
            logger.warning("%s: %s is %s; waiting for it to end", folder, _name(holder), doing)
        try:
            lock.acquire(timeout=patience)
        except Timeout:
            raise LaunchError(f"{folder}: {_name(holder)} is {doing}; wait for it or end it, and run again") from None
    try:
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def is_locked(folder: Path, name: str = ".lock") -> bool:
    """Whether a process has the lock of a folder, or may have it, where this user cannot look."""
    path = folder / name
    if not path.exists():
        return False
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    lock.release()
    return False


def _name(holder: Path) -> str:
    """The process that has a lock; it writes its name just after it took the lock."""
    try:
        name = holder.read_text()
    except FileNotFoundError:
        name = ""
    if (found := _HOLDER.fullmatch(name)) is None:
        return "another process"
    if found[2] == socket.gethostname() and _is_stopped(int(found[1])):
        return f"{name}, which was stopped (Ctrl-Z?) and goes on by `kill -CONT {found[1]}`,"
    return name


def _is_stopped(process: int) -> bool:
    with suppress(ImportError):
        import psutil  # the pipeline alone has it

        with suppress(psutil.Error):
            return bool(psutil.Process(process).status() == psutil.STATUS_STOPPED)
    return False


def stopped_children() -> list[int]:
    """Ids of processes that this one has started and that were stopped."""
    with suppress(ImportError):
        import psutil  # the pipeline alone has it

        return [child.pid for child in psutil.Process().children(recursive=True) if _is_stopped(child.pid)]
    return []


def end_with(process: int) -> None:
    """Ends this process within a second after the one with this id has ended on this machine, however that ended."""
    import psutil  # the pipeline alone has it

    def watch() -> None:
        with suppress(psutil.NoSuchProcess):
            other = psutil.Process(process)
            # Not `other.wait()`: for a process that is no child, it waits until the exit code has been collected.
            while other.is_running() and other.status() != psutil.STATUS_ZOMBIE:
                time.sleep(_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
