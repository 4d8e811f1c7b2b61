"""Submits a job by the launcher's settings, waits for it, and reports its progress."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import submitit

from caft.errors import LaunchError
from caft.params import LauncherParams

logger = logging.getLogger(__name__)
_POLL_SECONDS = 1.0
_TAIL_LINES = 25


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
    handle = executor(launcher, run_folder / "jobs").submit(job)
    logger.info("job %s, logs in %s", handle.job_id, run_folder / "jobs")
    (run_folder / "job.json").write_text(json.dumps({"executor": launcher.executor, "id": handle.job_id}) + "\n")
    metrics = Tail(run_folder / "metrics.jsonl")
    while not handle.done():
        progress(metrics.new())
        time.sleep(_POLL_SECONDS)
    progress(metrics.new())
    failure = next((e for e in (_exception(handle.task(r)) for r in range(launcher.world_size)) if e), None)
    if failure is not None:
        lines = str(failure).strip().splitlines()[-_TAIL_LINES:]
        raise LaunchError(
            f"training job {handle.job_id} failed; its logs are in {run_folder / 'jobs'}. "
            "`dvc repro` again continues from the last checkpoint. The end of the log:\n  " + "\n  ".join(lines)
        )


def _exception(task: Any) -> BaseException | None:
    found: BaseException | None = task.exception()
    return found


class Tail:
    """New whole lines of a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0

    def new(self) -> list[dict[str, Any]]:
        """Objects of the lines written since the last call."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            if file.seek(0, 2) < self.position:
                self.position = 0  # a resumed job dropped lines past its checkpoint
            file.seek(self.position)
            content = file.read()
        end = content.rfind(b"\n") + 1
        self.position += end
        return [json.loads(line) for line in content[:end].splitlines()]
