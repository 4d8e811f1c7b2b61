"""How a stage ends that is told to: by Ctrl-C, by SIGTERM, as at an outer job's limit, or by SIGHUP of a closed terminal."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_AS_CTRL_C = (signal.SIGTERM, signal.SIGHUP)


def quietly() -> None:
    """Until `ends_when_told`, Ctrl-C ends this process without a trace of which import it was at."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def ends_when_told() -> Iterator[None]:
    """Ends this process with one line, 128 plus the signal's number, after the block has cleaned up as for Ctrl-C.

    A signal that is ignored, as SIGHUP under `nohup`, stays ignored.
    """
    mine, told = os.getpid(), signal.SIGINT
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if os.getpid() != mine:  # a fork, which has nothing to clean up
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        told = signal.Signals(number)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in _AS_CTRL_C}
    for number, handler in before.items():
        if handler == signal.SIG_DFL:
            signal.signal(number, end)
    try:
        yield
    except KeyboardInterrupt as error:
        sys.stderr.write(f"ended by {told.name}: {error if error.args else 'run it again, and it goes on'}\n")
        sys.exit(128 + told)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
