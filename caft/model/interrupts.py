"""Ctrl-C while libraries are imported, which would swallow or wrap a KeyboardInterrupt."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from caft.errors import leave_at_once


@contextmanager
def importing() -> Iterator[bool]:
    """Within the block, Ctrl-C ends the process at once, with the line "interrupted" and exit code 130.

    Yields:
        Whether it does: only where Python's own handler stood, in the main thread.
    """
    is_main = threading.current_thread() is threading.main_thread()  # which alone is told of signals
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # as in the background
        yield False
        return
    signal.signal(signal.SIGINT, leave_at_once)
    try:
        yield True
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
