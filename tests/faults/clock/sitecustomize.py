"""Steps this process's wall clock: an hour ahead, two back, one ahead, every half second; first on PYTHONPATH.

What Python code reads by `time.time` steps. Clocks read in C, and those that only ever run forward, do not.
"""

import time

_seconds, _nanoseconds = time.time, time.time_ns
HOUR = 3600


def _step() -> int:
    return (0, HOUR, -HOUR)[int(2 * time.monotonic()) % 3]


time.time = lambda: _seconds() + _step()
time.time_ns = lambda: _nanoseconds() + _step() * 1_000_000_000
