"""How the benchmarks measure, forms in turn and memory in a process of its own, and print what they found."""

import argparse
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from caft.params import Params, load_params

FLAIR = "pipelines/ablation/flair.yaml"


class Times(NamedTuple):
    """Seconds of one form: of the fastest repetition, the one least disturbed, and of the median one."""

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
    forget_peak(CPU)
    before = held(CPU)
    run()
    return peak(CPU) - before


def held(device: torch.device) -> float:
    """MiB of memory that this process has now."""
    return torch.cuda.memory_allocated(device) / 2**20 if device.type == "cuda" else _resident("VmRSS")


def peak(device: torch.device) -> float:
    """MiB of memory at this process' high-water mark."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else _resident("VmHWM")


def forget_peak(device: torch.device) -> None:
    """Lets the high-water mark fall to what is held now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def print_forms(taken: dict[str, Times], memory: dict[str, float], repetitions: int) -> None:
    """Prints time and memory of each form."""
    for form, (least, median) in taken.items():
        print(f"  {form}: {least:.2f} s least, {median:.2f} s median of {repetitions}; {memory[form]:.0f} MiB added")


def print_rates(taken: dict[str, Times], images: int) -> None:
    """Prints images a second of each form."""
    for form, (least, median) in taken.items():
        print(f"{form}: {images / least:,.0f} images/s, {images / median:,.0f} by median")


def ratios(one: Times, other: Times) -> str:
    """Time of one form over that of another."""
    return f"{one.least / other.least:.2f} by least, {one.median / other.median:.2f} by median"


def settings_parser(command: str, about: str | None) -> argparse.ArgumentParser:
    """A command line that takes settings files."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{command}", description=about)
    parser.add_argument("--params", default="params.yaml", metavar="FILE", help="settings file (params.yaml)")
    parser.add_argument(
        "--overlay", action="append", default=[], metavar="FILE", help="settings merged over it; may be repeated"
    )
    return parser


def load_settings(arguments: argparse.Namespace, flair: bool = False) -> Params:
    """The settings that a command line of `settings_parser` names, with FLAIR's over them if asked."""
    more = [Path(arguments.params).parent / FLAIR] if flair else []
    return load_params(arguments.params, [*arguments.overlay, *more])
