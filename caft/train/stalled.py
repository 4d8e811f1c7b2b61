"""A time limit on reading images, since a file system that hangs never raises an error."""

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

from caft.errors import DataError
from caft.locking import stopped_children

T = TypeVar("T")
# Images of a batch take seconds; those on a file system that hangs take for ever.
STALLED_SECONDS = 600.0


@contextmanager
def time_limit(images: Path) -> Iterator[None]:
    """Ends the block, which reads from the folder `images`, if it takes longer than `STALLED_SECONDS`.

    It uses the system's alarm, so it works in the main thread only.

    Raises:
        DataError: It took longer.
    """

    def give_up(number: int, frame: FrameType | None) -> None:
        stopped = " ".join(map(str, stopped_children()))
        remedy = (
            f"A process that reads them was stopped: `kill -CONT {stopped}` lets it go on before this time is over"
            if stopped
            else "Look whether its file system answers (`ls`, `df`)"
        )
        raise DataError(
            f"{images}: no images came for {STALLED_SECONDS:g} seconds. {remedy}; then run `dvc repro` again"
        )

    handler = signal.signal(signal.SIGALRM, give_up)
    timer = signal.setitimer(signal.ITIMER_REAL, STALLED_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)


def each_in_time(batches: Iterable[T], images: Path) -> Iterator[T]:
    """Yields the batches, whether this process or its workers read them, each within the limit of `time_limit`.

    Raises:
        DataError: One took longer.
    """
    iterator = iter(batches)
    while True:
        with time_limit(images):
            batch = next(iterator, None)
        if batch is None:
            return
        yield batch
