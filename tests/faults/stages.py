"""Stages of the graph as processes of their own on some dozen scenes, and ways to disturb them.

The processes are forked from one that has imported what stages import, so that a test does not pay for it each time.
What they run is what `python -m pipelines.<stage>` runs.
"""

import csv
import json
import multiprocessing
import os
import runpy
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.waiting import PATIENCE

PROJECT = Path(__file__).parents[2]
GRAPH = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
STAGES = tuple(GRAPH)
CLOCK = Path(__file__).with_name("clock") / "sitecustomize.py"
# What a stage writes that differs from run to run: speeds.
TIMES = ("images_per_s", "data_wait_share", "tflops", "mfu", "padded_token_share", "peak_memory_mib",
    "step_seconds", "joules", "recompilations", "cost",
)  # fmt: skip

IMAGES, STEPS, CHECKPOINT_EVERY = 96, 40, 10
SETTINGS = {
    "train": {
        "batch": 8,
        "samples": 8 * STEPS,
        "warmup_steps": 5,
        "validate_every": 20,
        "checkpoint_every": CHECKPOINT_EVERY,
    },
    "superpixels": {"steps": 8},
    "corpus": {
        "scenes": {
            "images": IMAGES,
            "evaluation_images": 8,
            "regions": 4,
            "faults": {"missing": 3, "server_error": 1, "stalled": 1, "corrupt": 1, "opt_out": 1, "duplicate": 2},
            "fetch": {"timeout": 1, "retries": 0, "images_per_shard": 40, "image_size": 64},
        }
    },
    "benchmarks": {"random": {"pairs": 8}, "look_alike": {"pairs": 8}},
}

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.faults.preloaded"])


@dataclass(frozen=True)
class Done:
    """How a stage ended; its exit code is negative after a signal."""

    code: int
    log: str


class Stage:
    """A stage that runs in a checkout.

    Args:
        name: Of the stage.
        checkout: Holds params.yaml and what earlier stages wrote; also the storage root. Logs go to its parent's parent,
            since a test may fill the disk.
        disturb: Called in the process before the stage begins; a function of a module, or a partial of one.
        environment: Set on top of this process's.
    """

    def __init__(
        self,
        name: str,
        checkout: Path,
        disturb: Callable[[], None] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.log = checkout.parents[1] / f"{name}-{time.monotonic_ns()}.log"
        self.process = _forks.Process(target=_run, args=(name, checkout, self.log, disturb, environment or {}))
        self.process.start()
        self.id: int = self.process.pid  # type: ignore[assignment]

    def wait(self, seconds: float = 240) -> Done:
        """Waits for the stage's end, which comes within these seconds on an idle machine."""
        seconds *= PATIENCE
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.kill()
            raise AssertionError(f"still running after {seconds} seconds:\n{self.log.read_text()}")
        return Done(self.process.exitcode, self.log.read_text())

    def kill(self) -> None:
        """Kills the stage's process group, without a chance to clean up."""
        os.killpg(self.id, signal.SIGKILL)
        self.process.join()


def run(name: str, checkout: Path, disturb: Callable[[], None] | None = None, **environment: str) -> Done:
    """Runs a stage to its end."""
    return Stage(name, checkout, disturb, environment).wait()


def _run(name: str, checkout: Path, log: Path, disturb: Callable[[], None] | None, environment: dict[str, str]) -> None:
    os.setsid()
    # As in a terminal: what a shell runs in the background, as `make test` does, ignores Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.chdir(checkout)
    # As an activated environment has it; the code is this project's wherever the process stands.
    paths = f"{environment.pop('PYTHONPATH', '')}:{PROJECT}".lstrip(":")
    os.environ.update({"CAFT_STORAGE": str(checkout), "PYTHONPATH": paths, **environment})
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if disturb is not None:
        disturb()
    del sys.modules[f"pipelines.{name}"]  # was imported to be quicker now, and is run once more as the main module
    sys.argv = [name, "scenes"] if "foreach" in GRAPH[name] else [name]
    runpy.run_module(f"pipelines.{name}", run_name="__main__", alter_sys=True)


def outs(name: str) -> list[Path]:
    """Everything that a stage writes, relative to the checkout."""
    stage = GRAPH[name].get("do", GRAPH[name])
    entries = [out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
    paths = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]
    return [Path(path.replace("${item}", "scenes")) for path in paths]


def remove(checkout: Path, path: Path) -> None:
    """Removes an out, as DVC does before it runs a stage."""
    if (checkout / path).is_dir():
        shutil.rmtree(checkout / path)
    else:
        (checkout / path).unlink(missing_ok=True)


def content(path: Path) -> dict[str, Any]:
    """What an out holds, by the names of its files, without speeds."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path.parent)): _without_times(file) for file in files}


def _without_times(file: Path) -> Any:
    if file.name == "train.json":
        return {key: value for key, value in json.loads(file.read_text()).items() if key not in TIMES}
    if file.name == "train.csv":
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file.open())]
    return file.read_bytes()


def leftovers(checkout: Path) -> list[Path]:
    """Temporary files that no later run would use."""
    return [path for path in checkout.rglob(".*") if path.name.startswith(".tmp-")]


# ---- disturbances


def die_at(number: int) -> None:
    """Kills this process group as the process is about to change the checkout for the n-th time."""
    _watch(lambda seen: os.killpg(0, signal.SIGKILL) if seen == number else None)


def count_to(path: Path) -> None:
    """Writes the number of such changes down, again and again."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
    _watch(lambda seen: os.pwrite(handle, str(seen).encode(), 0))


def _watch(call: Callable[[int], object]) -> None:
    seen, place = 0, os.getcwd()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open":
            changes = not isinstance(arguments[0], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        else:
            changes = event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir") and arguments[-1] == -1
        # Only in the checkout: what tools do in folders of their own differs from run to run.
        if changes and os.path.abspath(os.fsdecode(arguments[0])).startswith(place):
            seen += 1
            call(seen)

    sys.addaudithook(hook)
