"""Runs a job by the launcher's settings: submits it, or attaches to the one under way, and waits for its end."""

import logging
import os
import re
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import submitit

from caft.errors import LaunchError, UnderWayError
from caft.params.settings import LauncherParams, SlurmParams
from caft.storage import write_json
from slurm import queue
from slurm.rank import Submitted

logger = logging.getLogger(__name__)
_POLL_SECONDS = 1.0
_QUEUE_SECONDS = 5.0
# How long Slurm's controller may be out of reach, as while it is restarted.
_SILENCE_SECONDS = 900.0
_TAIL_LINES = 25
# How a job ends whose process takes SIGUSR2 by ending, as Slurm's controller and its accounting write it.
_BY_NOTICE = (f"{128 + signal.SIGUSR2}:0", f"0:{int(signal.SIGUSR2)}")
_ENVIRONMENT = Path(__file__).with_name("environment.sh")
# If this process runs in an allocation itself, Slurm would take that one's variables for options of the new job.
_INHERITED = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SUBMITIT_", "MASTER_", "RANK", "WORLD_SIZE", "LOCAL_")

Job = Callable[[], object]


def run(
    job: Job,
    launcher: LauncherParams,
    run_folder: Path,
    progress: Callable[[], None] = lambda: None,
    what: str = "training job",
    again: str = "continues from the last checkpoint",
) -> None:
    """Runs a job to its end.

    A job on a cluster outlives the process that submitted it. If one of this run is waiting or running there, this
    process attaches to it. Ranks on this machine end with this process.

    Args:
        job: Run by every rank; must be picklable.
        launcher: Where it runs.
        run_folder: Job files go to `jobs/` in it.
        progress: Called every second while the job is under way, and once after its end.
        what: Name of the job in messages.
        again: What the next `dvc repro` does if the job fails.

    Raises:
        LaunchError: The job was not accepted, or failed; holds the end of its log.
        UnderWayError: As `_wait`.
    """
    if launcher.slurm is None:
        handle = _submit(Submitted(job, os.getpid()), launcher, run_folder)
        while not handle.done():
            progress()
            time.sleep(_POLL_SECONDS)
        identity, ended = handle.job_id, None
    else:
        identity = _on_cluster(job, launcher, run_folder)
        with _left([identity]):
            ended = _wait(identity, launcher.slurm, progress)
    progress()
    _check(identity, ended, launcher, run_folder, what, again)


def run_side_by_side(jobs: Mapping[Path, Job], launcher: LauncherParams, what: str, again: str) -> None:
    """Runs several jobs of a cluster, by their run folders, to their ends, each as `run` does.

    Raises:
        LaunchError: As `run`, of the first that failed; the others go on.
    """
    assert launcher.slurm is not None
    under_way = {folder: _on_cluster(job, launcher, folder) for folder, job in jobs.items()}
    for folder, identity in under_way.items():
        with _left(under_way.values()):
            ended = _wait(identity, launcher.slurm, lambda: None)
        _check(identity, ended, launcher, folder, what, again)


@contextmanager
def _left(jobs: Iterable[str]) -> Iterator[None]:
    """Tells whoever interrupts the waiting what becomes of the jobs."""
    try:
        yield
    except KeyboardInterrupt:
        names = " ".join(jobs)
        one = " " not in names
        words = ("goes", "it", "it") if one else ("go", "them", "them")
        raise KeyboardInterrupt(
            f"job{'' if one else 's'} {names} {words[0]} on; `dvc repro` attaches to {words[1]} again, "
            f"`scancel {names}` ends {words[2]}"
        ) from None


def _on_cluster(job: Job, launcher: LauncherParams, run_folder: Path) -> str:
    """Id of the run's job: of the one that Slurm already has, else of a new one."""
    name = f"caft-{run_folder.name}"
    if jobs := queue.alive(name):
        identity = jobs[0]
        logger.info("job %s of this run is under way: attached to it", identity)
    else:
        identity = str(_submit(Submitted(job), launcher, run_folder, name).job_id)
    logger.info("to end it for good: scancel %s; to leave it running, end this process", identity)
    return identity


def _check(
    identity: str, ended: queue.State | None, launcher: LauncherParams, run_folder: Path, what: str, again: str
) -> None:
    """Raises a LaunchError with the reason if a job failed."""
    folder = run_folder / "jobs"
    failures = _failures(folder, identity, launcher.world_size)
    # If Slurm has forgotten the job, the results of its ranks tell.
    if ended.is_good if ended and ended.is_known else not failures:
        return
    how = f" ({ended})" if ended else ""
    raise LaunchError(
        f"{what} {identity} failed{how}; its logs are in {folder}. "
        f"`dvc repro` again {again}. {_untaken_notice(ended, launcher) or _reason(folder, identity, failures)}"
    )


def _untaken_notice(ended: queue.State | None, launcher: LauncherParams) -> str | None:
    """What to do if a job was ended by Slurm's signal of a time limit or a preemption; None if it ended otherwise."""
    if launcher.slurm is None or ended is None or ended.detail.removeprefix("exit code ") not in _BY_NOTICE:
        return None
    return (
        "It was ended by the signal that Slurm gives before a time limit or a preemption (SIGUSR2), which came before a rank "
        "could take it, as while Python starts. If this comes again: the launcher's time_minutes "
        f"({launcher.time_minutes}) is short for its slurm.notice_seconds ({launcher.slurm.notice_seconds}) and so slow a start"
    )


def _submit(job: Submitted, launcher: LauncherParams, run_folder: Path, name: str = "") -> Any:
    """Submits a job and records its id.

    Raises:
        LaunchError: Slurm did not take it.
    """
    folder = run_folder / "jobs"
    try:
        with _own_environment():
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


def executor(launcher: LauncherParams, folder: Path, name: str) -> submitit.Executor:
    """The executor that asks for a launcher's resources; Slurm finds the job again by its name.

    Raises:
        LaunchError: There is no Slurm here.
    """
    if launcher.slurm is None:
        local = submitit.LocalExecutor(folder)
        local.update_parameters(
            nodes=launcher.nodes,
            tasks_per_node=launcher.tasks_per_node,
            gpus_per_node=launcher.gpus_per_node,
            timeout_min=launcher.time_minutes,
        )
        return local
    if shutil.which("sbatch") is None:
        raise LaunchError("sbatch is not found, so there is no Slurm here; run on a login node, or set launch: local")
    slurm = submitit.SlurmExecutor(folder, max_num_timeout=launcher.slurm.time_limits)
    asked = {key: getattr(launcher.slurm, key) for key in ("partition", "account", "qos", "constraint")}
    if launcher.slurm.memory_gb is not None:
        asked["mem"] = f"{launcher.slurm.memory_gb}GB"
    if launcher.gpus_per_node:
        asked["gpus_per_node"] = launcher.gpus_per_node
    pairs = (line.removeprefix("--").partition("=") for line in launcher.slurm.sbatch)
    options = {key: value if equals else True for key, equals, value in pairs}
    slurm.update_parameters(
        **{key: value for key, value in asked.items() if value is not None},
        nodes=launcher.nodes,
        ntasks_per_node=launcher.tasks_per_node,
        cpus_per_task=launcher.cpus_per_task,
        time=launcher.time_minutes,
        signal_delay_s=launcher.slurm.notice_seconds,
        job_name=name,
        setup=[f"source {shlex.quote(str(_ENVIRONMENT))}"],
        # Without the first, a rank that fails leaves the others waiting for it; the second is srun's own limit on tasks.
        srun_args=["--kill-on-bad-exit=1", f"--cpus-per-task={launcher.cpus_per_task}"],
        additional_parameters={"requeue": True, **options},
    )
    return slurm


@contextmanager
def _own_environment() -> Iterator[None]:
    """Hides the variables of an allocation while a job is submitted from inside it."""
    hidden = {
        key: os.environ.pop(key) for key in list(os.environ) if key.startswith(_INHERITED) and key != "SLURM_CONF"
    }
    try:
        yield
    finally:
        os.environ.update(hidden)


def _wait(job: str, settings: SlurmParams, report: Callable[[], None]) -> queue.State:
    """Waits until Slurm says twice that a job is over, since a job that is being requeued may look over for a moment.

    Raises:
        UnderWayError: It is not over at the deadline, or Slurm is silent.
    """
    begun = heard = time.monotonic()
    asked, last, over = -_QUEUE_SECONDS, queue.State(""), 0
    while over < 2:
        report()
        time.sleep(_POLL_SECONDS)
        now = time.monotonic()
        if now - begun > settings.deadline_hours * 3600:
            raise UnderWayError(
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
                raise UnderWayError(f"{error}; {silence}") from None
            logger.warning("%s; retrying", error)
            continue
        heard = now
        if (found.name, found.restarts, found.is_held) != (last.name, last.restarts, last.is_held):
            logger.info("job %s: %s, requeued %d times", job, found, found.restarts)
            if found.is_held:
                words = "job %s is held and will not start by itself: `scontrol release %s` lets it go, `scancel %s` ends it"
                logger.warning(words, job, job, job)
        last, over = found, over + 1 if found.is_over else 0
    return last


def _failures(folder: Path, job: str, ranks: int) -> dict[int, str | None]:
    """Error of each failed rank; None for a rank whose process died without reporting one."""
    found: dict[int, str | None] = {}
    for rank in range(ranks):
        path = submitit.core.utils.JobPaths(folder, job_id=job, task_id=rank).result_pickle
        outcome, error = submitit.core.utils.pickle_load(path) if path.exists() else ("lost", None)
        if outcome != "success":
            found[rank] = error
    return found


def _reason(folder: Path, job: str, failures: dict[int, str | None]) -> str:
    """Why a job failed: a rank's CaftError, else which ranks died silently, else the end of the first traceback."""
    lost = [rank for rank, error in failures.items() if error is None]
    for error in failures.values():
        found = re.search(r"^caft\.errors\.\w+: (.*?)(?:\n-{5,}|\Z)", error or "", re.MULTILINE | re.DOTALL)
        if found:
            return "The reason:\n  " + found[1].strip().replace("\n", "\n  ")
        # Torch tells it wherever the rank happens to be. One that was told to end may have been so since a rank was gone.
        found = re.search(r"^RuntimeError: (DataLoader worker \(pid.*)", error or "", re.MULTILINE)
        if found and not (lost and "signal: Terminated" in found[1]):
            return (
                f"The reason:\n  a process that reads images was ended from outside. {found[1].strip()} If memory was short "
                "(`dmesg`), give the launcher fewer workers or more memory"
            )
    # Others raise errors of a connection that broke: what came first is that a rank was gone.
    if lost:
        path = submitit.core.utils.JobPaths(folder, job_id=job, task_id=lost[0]).stderr
        text = path.read_text(errors="replace") if path.exists() else "(there is none)"
        intro = f"Gone without a word, as when killed or out of memory: rank {', '.join(map(str, lost))}. The end of its log:"
    else:
        text, intro = next((error for error in failures.values() if error), ""), "The end of the log:"
    return "\n  ".join([intro, *text.strip().splitlines()[-_TAIL_LINES:]])
