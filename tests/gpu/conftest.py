"""Checks for a machine with a GPU: `make gpu-check`. They end in one page of pass or fail.

The default suite does not collect this folder. It runs the same functions (`checks.py`) on the CPU and on a pretended
device, so that their own mistakes are found without a GPU; CUDA's kernels it cannot run.
"""

import platform
from collections.abc import Iterator
from typing import Any

import pytest
import torch

NO_GPU = "no CUDA device"
_WORDS = {"passed": "pass", "failed": "FAIL", "error": "FAIL", "skipped": "not run"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason=NO_GPU))


@pytest.fixture(autouse=True)
def true_float32() -> Iterator[None]:
    """Products and convolutions in full float32, which the CPU's are compared with."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The page."""
    write = terminalreporter.write_line
    write("")
    write(f"GPU check: torch {torch.__version__}, CUDA {torch.version.cuda}, Python {platform.python_version()}")
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        write(f"  device {number}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    counts = dict.fromkeys(("pass", "FAIL", "not run"), 0)
    for outcome, word in _WORDS.items():
        for report in terminalreporter.stats.get(outcome, []):
            counts[word] += 1
            name = report.nodeid.split("::")[-1].removeprefix("test_").replace("_", " ")
            reason = f": {report.longrepr[2].removeprefix('Skipped: ')}" if outcome == "skipped" else ""
            write(f"  {word:8}{report.duration:6.1f} s  {name}{reason}")
    write("  " + ", ".join(f"{count} {word}" for word, count in counts.items()))
    if not counts["pass"] and not counts["FAIL"]:
        write("  nothing was checked")
