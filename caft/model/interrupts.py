"""Ctrl-C while libraries are imported, or at the process's end, where they would swallow or wrap a KeyboardInterrupt."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Within the block, Ctrl-C ends the process at once, with the line "interrupted" and exit code 130."""
    if threading.current_thread() is not threading.main_thread():  # which alone is told of signals
        yield
        return
    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.default_int_handler)


def leave(number: int, frame: object) -> None:
    """Ends the process; a handler of signals."""
    os.write(2, b"interrupted\n")
    os._exit(130)
