"""Progress of long loops: a bar on a terminal, a plain line now and then in a job's log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BEFORE_A_BAR = 2.0  # a loop that is over by then needs none


def track(iterable: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yields the items of `iterable` and reports how far it is.

    `description` says what is counted, such as "shards", and `total` how many there are, if the iterable has no ``len``.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    if sys.stderr.isatty():
        try:
            from tqdm import tqdm  # not installed by those who only use a model
        except ImportError:
            pass
        else:
            yield from tqdm(iterable, desc=description, total=total, leave=False, delay=SECONDS_BEFORE_A_BAR)
            return
    started = last_line = time.monotonic()
    for count, item in enumerate(iterable, start=1):
        yield item
        now = time.monotonic()
        if now - last_line >= SECONDS_BETWEEN_LINES:
            last_line = now
            of_total = "" if total is None else f" of {total}"
            logger.info("%s: %d%s, %.1f/s", description, count, of_total, count / (now - started))
