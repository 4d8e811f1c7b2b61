"""Submits a job by the launcher's settings, waits for it, and reports its progress."""

import json
import logging
import os
import re
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from caft.errors import LaunchError
from caft.params import LauncherParams
from caft.storage import write_json

logger = logging.getLogger(__name__)
_POLL_SECONDS = 1.0
_TAIL_LINES = 25
_WATCH_SECONDS = 0.5


def executor(launcher: LauncherParams, folder: Path) -> submitit.Executor:
    """The executor of a launcher; job files go into `folder`."""
    common = {
        "nodes": launcher.nodes,
        "tasks_per_node": launcher.tasks_per_node,
        "gpus_per_node": launcher.gpus_per_node,
        "timeout_min": launcher.time_minutes,
    }
    if launcher.executor == "local":
        local = submitit.LocalExecutor(folder)
        local.update_parameters(**common)
        return local
    environment = Path(__file__).with_name("environment.sh")
    slurm = submitit.AutoExecutor(folder, cluster="slurm")
    slurm.update_parameters(
        **common,
        cpus_per_task=launcher.cpus_per_task,
        slurm_setup=[f"source {environment}"] if environment.exists() else [],
        # Without this, a rank that fails leaves the others waiting for it.
        slurm_srun_args=["--kill-on-bad-exit=1"],
        slurm_job_name="caft",
    )
    return slurm


def run(
    job: Callable[[], None],
    launcher: LauncherParams,
    run_folder: Path,
    progress: Callable[[list[dict[str, Any]]], None],
) -> None:
    """Submits a job and waits for its end.

    Args:
        job: Run by every rank.
        launcher: Where.
        run_folder: Of the run; job files go to `jobs/` in it, and its `metrics.jsonl` is followed.
        progress: Gets new lines of the metrics as they come.

    Raises:
        LaunchError: The job failed; holds the end of its log.
    """
    # A job of a cluster outlives whoever submitted it; ranks that this process starts must end with it.
    submitted = Attended(job, os.getpid()) if launcher.executor == "local" else job
    handle = executor(launcher, run_folder / "jobs").submit(submitted)
    logger.info("job %s, logs in %s", handle.job_id, run_folder / "jobs")
    write_json(run_folder / "job.json", {"executor": launcher.executor, "id": handle.job_id})
    metrics = Tail(run_folder / "metrics.jsonl")
    while not handle.done():
        progress(metrics.new())
        time.sleep(_POLL_SECONDS)
    progress(metrics.new())
    failures = [str(error) for rank in range(launcher.world_size) if (error := handle.task(rank).exception())]
    if failures:
        raise LaunchError(
            f"training job {handle.job_id} failed; its logs are in {run_folder / 'jobs'}. "
            f"`dvc repro` again continues from the last checkpoint. {_reason(failures)}"
        )


def _reason(failures: list[str]) -> str:
    """The message of an error of ours if a rank raised one, else the end of the first log."""
    for failure in failures:
        if found := re.search(r"^caft\.errors\.\w+: (.*?)(?:\n-{5,}|\Z)", failure, re.MULTILINE | re.DOTALL):
            return "The reason:\n  " + found[1].strip().replace("\n", "\n  ")
    lines = failures[0].strip().splitlines()[-_TAIL_LINES:]
    return "The end of the log:\n  " + "\n  ".join(lines)


@dataclass(frozen=True)
class Attended:
    """A job that ends soon after the process that launched it, however that ended.

    Attributes:
        job: Run by every rank.
        launcher: Process id on this machine.
    """

    job: Callable[[], None]
    launcher: int

    def __call__(self) -> None:
        """Runs one rank."""
        threading.Thread(target=_end_with, args=(self.launcher,), daemon=True).start()
        self.job()

    def checkpoint(self, *arguments: Any, **named: Any) -> Any:
        """Called by submitit before a time limit: the same job again."""
        return submitit.helpers.DelayedSubmission(self)


def _end_with(launcher: int) -> None:
    try:
        if hasattr(os, "pidfd_open"):  # tells of the end also while nobody has collected its exit code
            select.select([os.pidfd_open(launcher)], [], [])
        else:
            while True:
                os.kill(launcher, 0)
                time.sleep(_WATCH_SECONDS)
    except ProcessLookupError:
        pass
    os._exit(1)


class Tail:
    """New whole lines of a file of JSON lines; all of them again if the file was replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0
        self.file = (0, 0)

    def new(self) -> list[dict[str, Any]]:
        """Objects of the lines written since the last call."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            state = os.fstat(file.fileno())
            if self.file != (state.st_dev, state.st_ino):
                self.file, self.position = (state.st_dev, state.st_ino), 0
            file.seek(self.position)
            content = file.read()
        end = content.rfind(b"\n") + 1
        self.position += end
        return [json.loads(line) for line in content[:end].splitlines()]
