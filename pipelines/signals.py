"""How a stage ends that is told to: by Ctrl-C, by SIGTERM, as at an outer job's limit, or by SIGHUP of a closed terminal."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from caft.errors import leave_at_once

_AS_CTRL_C = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ends_when_told() -> Iterator[None]:
    """Ends this process with one line, 128 plus the signal's number, after the block has cleaned up as for Ctrl-C.

    A signal that is ignored, as SIGHUP under `nohup`, stays ignored.
    """
    mine, told = os.getpid(), signal.SIGINT

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if os.getpid() != mine:  # a fork, which has nothing to clean up
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        told = signal.Signals(number)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_AS_CTRL_C)}
    for number, handler in before.items():
        if handler == leave_at_once:  # while the stage was imported
            signal.signal(number, signal.default_int_handler)
        elif number in _AS_CTRL_C and handler == signal.SIG_DFL:
            signal.signal(number, end)
    try:
        yield
    except KeyboardInterrupt as error:
        sys.stderr.write(f"ended by {told.name}: {error if error.args else 'run it again, and it goes on'}\n")
        sys.exit(128 + told)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
