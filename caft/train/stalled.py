"""An end to waiting for images that do not come."""

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

from caft.errors import DataError

T = TypeVar("T")


@contextmanager
def answer_within(seconds: float, images: Path) -> Iterator[None]:
    """Ends what is done inside if it takes too long, as reading from a file system that hangs.

    An alarm of the system, so only the main thread may use it.

    Args:
        seconds: The limit.
        images: Where images are read from, for the message.

    Raises:
        DataError: It took longer.
    """

    def give_up(number: int, frame: FrameType | None) -> None:
        raise DataError(
            f"{images}: no images came for {seconds:g} seconds. Look whether its file system answers (`ls`, `df`), "
            "then run `dvc repro` again"
        )

    handler = signal.signal(signal.SIGALRM, give_up)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)


def each_within(seconds: float, batches: Iterable[T], images: Path) -> Iterator[T]:
    """The batches, whether this process reads them or others do, each after no longer than a time.

    Raises:
        DataError: One took longer.
    """
    iterator = iter(batches)
    while True:
        with answer_within(seconds, images):
            try:
                batch = next(iterator)
            except StopIteration:
                return
        yield batch
