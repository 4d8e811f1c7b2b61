"""The executors of submitit that a launcher's settings describe."""

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import submitit

from caft.errors import LaunchError
from caft.params import LauncherParams

ENVIRONMENT = Path(__file__).with_name("environment.sh")
# If this process runs in an allocation itself, Slurm would take that one's variables for options of the new job.
_INHERITED = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SUBMITIT_", "MASTER_", "RANK", "WORLD_SIZE", "LOCAL_")


def executor(launcher: LauncherParams, folder: Path, name: str) -> submitit.Executor:
    """The executor of a launcher.

    Args:
        launcher: The resources to ask for.
        folder: Folder for the job files.
        name: Name of the job, by which Slurm finds it again.

    Raises:
        LaunchError: There is no Slurm here.
    """
    common = {
        "nodes": launcher.nodes,
        "tasks_per_node": launcher.tasks_per_node,
        "gpus_per_node": launcher.gpus_per_node,
        "timeout_min": launcher.time_minutes,
    }
    if launcher.slurm is None:
        local = submitit.LocalExecutor(folder)
        local.update_parameters(**common)
        return local
    if shutil.which("sbatch") is None:
        raise LaunchError("sbatch is not found, so there is no Slurm here; run on a login node, or set launch: local")
    slurm = submitit.SlurmExecutor(folder, max_num_timeout=launcher.slurm.time_limits)
    asked = {key: getattr(launcher.slurm, key) for key in ("partition", "account", "qos", "constraint")}
    if launcher.slurm.memory_gb is not None:
        asked["mem"] = f"{launcher.slurm.memory_gb}GB"
    if launcher.gpus_per_node:
        asked["gpus_per_node"] = launcher.gpus_per_node
    slurm.update_parameters(
        **{key: value for key, value in asked.items() if value is not None},
        nodes=launcher.nodes,
        ntasks_per_node=launcher.tasks_per_node,
        cpus_per_task=launcher.cpus_per_task,
        time=launcher.time_minutes,
        signal_delay_s=launcher.slurm.notice_seconds,
        job_name=name,
        setup=[f"source {shlex.quote(str(ENVIRONMENT))}"],
        # Without the first, a rank that fails leaves the others waiting for it; the second is srun's own limit on tasks.
        srun_args=["--kill-on-bad-exit=1", f"--cpus-per-task={launcher.cpus_per_task}"],
        additional_parameters={"requeue": True, **_options(launcher.slurm.sbatch)},
    )
    return slurm


def _options(lines: tuple[str, ...]) -> dict[str, Any]:
    """Options of sbatch as submitit takes them: those without a value are true."""
    pairs = (line.removeprefix("--").partition("=") for line in lines)
    return {key: value if equals else True for key, equals, value in pairs}


@contextmanager
def own_environment() -> Iterator[None]:
    """Hides the variables of an allocation while a job is submitted from inside it."""
    hidden = {
        key: os.environ.pop(key) for key in list(os.environ) if key.startswith(_INHERITED) and key != "SLURM_CONF"
    }
    try:
        yield
    finally:
        os.environ.update(hidden)
