"""Runs a job by the launcher's settings: submits it, or finds the one that is under way, and waits for its end."""

import json
import logging
import os
import re
import select
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from caft.errors import LaunchError
from caft.params import LauncherParams, SlurmParams
from caft.storage import write_json
from slurm import queue
from slurm.executors import executor, own_environment

logger = logging.getLogger(__name__)
_POLL_SECONDS = 1.0
_QUEUE_SECONDS = 5.0
# How long Slurm's controller may be out of reach, as while it is restarted.
_SILENCE_SECONDS = 900.0
_TAIL_LINES = 25
_WATCH_SECONDS = 0.5

Progress = Callable[[list[dict[str, Any]]], None]


def run(
    job: Callable[[], None],
    launcher: LauncherParams,
    run_folder: Path,
    progress: Progress,
    what: str = "training job",
    again: str = "continues from the last checkpoint",
) -> None:
    """Runs a job to its end.

    A job of a cluster outlives whoever submitted it. If one of this run is waiting or running there, it is taken;
    ranks on this machine end with this process.

    Args:
        job: Run by every rank.
        launcher: Where.
        run_folder: Of the run; job files go to `jobs/` in it, and its `metrics.jsonl` is followed.
        progress: Gets new lines of the metrics as they come.
        what: Of the job, for messages.
        again: What the next `dvc repro` does if the job fails.

    Raises:
        LaunchError: The job was not accepted, or failed; holds the end of its log.
    """
    metrics = Tail(run_folder / "metrics.jsonl")
    if launcher.slurm is None:
        handle = _submit(Attended(job, os.getpid()), launcher, run_folder)
        while not handle.done():
            progress(metrics.new())
            time.sleep(_POLL_SECONDS)
        identity, ended = handle.job_id, None
    else:
        identity = _on_cluster(job, launcher, run_folder)
        ended = _wait(identity, launcher.slurm, lambda: progress(metrics.new()))
    progress(metrics.new())
    _check(identity, ended, launcher, run_folder, what, again)


def run_side_by_side(jobs: Mapping[Path, Callable[[], None]], launcher: LauncherParams, what: str, again: str) -> None:
    """Runs several jobs of a cluster to their ends, each as `run` does.

    Args:
        jobs: By the run folder of each.
        launcher: Where each of them runs.
        what: Of a job, for messages.
        again: What the next `dvc repro` does if one fails.

    Raises:
        LaunchError: As `run`, of the first that failed; the others go on.
    """
    assert launcher.slurm is not None
    under_way = {folder: _on_cluster(job, launcher, folder) for folder, job in jobs.items()}
    for folder, identity in under_way.items():
        ended = _wait(identity, launcher.slurm, lambda: None)
        _check(identity, ended, launcher, folder, what, again)


def _on_cluster(job: Callable[[], None], launcher: LauncherParams, run_folder: Path) -> str:
    """Id of the run's job, which Slurm already has or is given."""
    name = f"caft-{run_folder.name}"
    identity = _under_way(name) or _submit(job, launcher, run_folder, name).job_id
    logger.info("to end it for good: scancel %s; to leave it running, end this process", identity)
    return str(identity)


def _check(
    identity: str, ended: queue.State | None, launcher: LauncherParams, run_folder: Path, what: str, again: str
) -> None:
    """Raises the error of a job that did not end well."""
    folder = run_folder / "jobs"
    failures = _failures(folder, identity, launcher.world_size)
    # Of a job that Slurm has forgotten its ranks' results tell.
    if ended.is_good if ended and ended.is_known else not failures:
        return
    how = f" ({ended})" if ended else ""
    raise LaunchError(
        f"{what} {identity} failed{how}; its logs are in {folder}. "
        f"`dvc repro` again {again}. {_reason(folder, identity, failures)}"
    )


def _under_way(name: str) -> str | None:
    """Id of the run's job that Slurm already has."""
    jobs = queue.alive(name)
    if jobs:
        logger.info("job %s of this run is under way: attached to it", jobs[0])
    return jobs[0] if jobs else None


def _submit(job: Callable[[], None], launcher: LauncherParams, run_folder: Path, name: str = "") -> Any:
    """Submits a job, and writes its id down.

    Raises:
        LaunchError: Slurm did not take it.
    """
    folder = run_folder / "jobs"
    try:
        with own_environment():
            handle = executor(launcher, folder, name).submit(job)
    except submitit.core.utils.FailedJobError as error:
        said = re.findall(r"sbatch: error: (.*)", str(error)) or [str(error)]
        raise LaunchError(
            f"Slurm does not take the job: {'; '.join(said)}; change the launcher's entry in params.yaml "
            "(partition, account, nodes, GPUs, time), or ask `sinfo` what there is"
        ) from None
    logger.info("job %s, logs in %s", handle.job_id, folder)
    write_json(run_folder / "job.json", {"executor": launcher.executor, "id": handle.job_id})
    return handle


def _wait(job: str, settings: SlurmParams, report: Callable[[], None]) -> queue.State:
    """Waits until Slurm says that a job is over, twice, since a job that is requeued may look so for a moment.

    Raises:
        LaunchError: It is not over at the deadline, or Slurm is silent.
    """
    begun = heard = time.monotonic()
    asked, last, over = -_QUEUE_SECONDS, queue.State(""), 0
    while over < 2:
        report()
        time.sleep(_POLL_SECONDS)
        now = time.monotonic()
        if now - begun > settings.deadline_hours * 3600:
            raise LaunchError(
                f"job {job} is {last.name} after {settings.deadline_hours} hours (deadline_hours); it goes on. "
                f"`dvc repro` waits again; `scancel {job}` ends it"
            )
        if now - asked < _QUEUE_SECONDS and not over:
            continue
        asked = now
        try:
            found = queue.state(job)
        except queue.NoAnswer as error:
            if now - heard > _SILENCE_SECONDS:
                silence = f"so for {now - heard:.0f} seconds; `dvc repro` attaches to job {job} again"
                raise LaunchError(f"{error}; {silence}") from None
            logger.warning("%s; asking again", error)
            continue
        heard = now
        if (found.name, found.restarts, found.is_held) != (last.name, last.restarts, last.is_held):
            logger.info("job %s: %s, requeued %d times", job, found, found.restarts)
            if found.is_held:
                logger.warning(
                    "job %s is held and will not start by itself: `scontrol release %s` lets it go, `scancel %s` ends it",
                    job,
                    job,
                    job,
                )
        last, over = found, over + 1 if found.is_over else 0
    return last


def _failures(folder: Path, job: str, ranks: int) -> dict[int, str | None]:
    """By rank that did not end well, the error that it raised, or None if it was gone before it could say a word."""
    found: dict[int, str | None] = {}
    for rank in range(ranks):
        path = submitit.core.utils.JobPaths(folder, job_id=job, task_id=rank).result_pickle
        outcome, error = submitit.core.utils.pickle_load(path) if path.exists() else ("lost", None)
        if outcome != "success":
            found[rank] = error
    return found


def _reason(folder: Path, job: str, failures: dict[int, str | None]) -> str:
    """The message of an error of ours if a rank raised one, else who was lost, else the end of the first error."""
    for error in failures.values():
        found = re.search(r"^caft\.errors\.\w+: (.*?)(?:\n-{5,}|\Z)", error or "", re.MULTILINE | re.DOTALL)
        if found:
            return "The reason:\n  " + found[1].strip().replace("\n", "\n  ")
    # Others raise errors of a connection that broke: what came first is that a rank was gone.
    lost = [rank for rank, error in failures.items() if error is None]
    if lost:
        path = submitit.core.utils.JobPaths(folder, job_id=job, task_id=lost[0]).stderr
        text = path.read_text(errors="replace") if path.exists() else "(there is none)"
        intro = f"Gone without a word, as when killed or out of memory: rank {', '.join(map(str, lost))}. The end of its log:"
    else:
        text, intro = next((error for error in failures.values() if error), ""), "The end of the log:"
    return "\n  ".join([intro, *text.strip().splitlines()[-_TAIL_LINES:]])


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
