"""How the benchmarks measure: forms in turn, processor time, and memory in a process of its own."""

import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch


class Times(NamedTuple):
    """Seconds of processor time of one form.

    Attributes:
        least: Of the fastest repetition, the one least disturbed.
        median: Of all repetitions.
    """

    least: float
    median: float


CPU = torch.device("cpu")


def machine(device: torch.device = CPU) -> str:
    """Processor or GPU, PyTorch and threads in one line."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}; torch {torch.__version__}"
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return (
        f"{processor}, {multiprocessing.cpu_count()} cores; torch {torch.__version__}, "
        f"{torch.get_num_threads()} thread(s)"
    )


def now(device: torch.device) -> float:
    """Seconds of this process' processor time; of a GPU, time of day when all its kernels are done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def times(forms: dict[str, Callable[[], object]], repetitions: int, device: torch.device = CPU) -> dict[str, Times]:
    """Time of each form; they run in turn, so that a busy machine disturbs all alike.

    The first round warms up and is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(repetitions + 1):
        for name, form in forms.items():
            start = now(device)
            form()
            seconds[name].append(now(device) - start)
    return {name: Times(min(taken[1:]), statistics.median(taken[1:])) for name, taken in seconds.items()}


def peak_memory(set_up: Callable[..., Callable[[], object]], *arguments: Any) -> float:
    """MiB that one run adds to a fresh process: its high-water mark of resident memory over what it held before.

    Linux alone tells the mark (VmHWM) and lets a process reset it.

    Args:
        set_up: Importable function that makes the inputs and returns what is to be measured.
        arguments: Of `set_up`.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_added, (set_up, *arguments))


def _added(set_up: Callable[..., Callable[[], object]], *arguments: Any) -> float:
    torch.set_num_threads(1)
    run = set_up(*arguments)
    forget_peak()
    before = resident("VmRSS")
    run()
    return (resident("VmHWM") - before) / 1024


def forget_peak() -> None:
    """Lets the high-water mark fall to what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def resident(field: str) -> int:
    """Resident memory of this process in KiB: VmRSS is now, VmHWM its high-water mark."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))  # in KiB
