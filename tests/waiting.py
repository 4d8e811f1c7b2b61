"""Waiting for what a test has started."""

import subprocess
import time
from collections.abc import Callable
from typing import Any

# Tests say what an idle machine of two cores needs; a busy or slow one waits this many times longer before it gives up.
PATIENCE = 6


def wait_until(condition: Callable[[], object], seconds: float, process: subprocess.Popen[Any] | None = None) -> None:
    """Waits for what an idle machine does within these seconds, while the process that does it runs, if one is given."""
    seconds *= PATIENCE
    end = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < end, f"still not so after {seconds} seconds"
        time.sleep(0.01)
