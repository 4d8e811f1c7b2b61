"""Where a run is from: the code with its changes, the experiment, and the process that has it open."""

from __future__ import annotations

import getpass
import hashlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)
COMMIT_TAG, CHANGES_TAG = "mlflow.source.git.commit", "caft.changes"
USER_TAG, SOURCE_TAG, SOURCE_TYPE_TAG = "mlflow.user", "mlflow.source.name", "mlflow.source.type"
HOST_TAG, PROCESS_TAG, STARTED_TAG, JOB_TAG = "caft.host", "caft.process", "caft.process_started", "caft.job"
LONGEST_DIFF = 2**20  # bytes; a longer one is a digest alone
_CODE = ("caft", "pipelines", "slurm", "dvc.yaml")
_NOTHING = "/dev/null"  # git's name for the other side of a new file


def commit() -> str | None:
    """Returns the commit of the code; None outside of git."""
    head = _git("rev-parse", "HEAD")
    return head.decode().strip() if head else None


def diff() -> bytes:
    """Returns what the code differs in from its commit, new files included, as git writes it; empty if in nothing."""
    changed = _git("diff", "--binary", "--no-ext-diff", "--relative", "HEAD", "--", *_CODE)
    new = os.fsdecode(_git("ls-files", "--others", "--exclude-standard", "-z", "--", *_CODE)).split("\0")
    added = [_git("diff", "--binary", "--no-ext-diff", "--no-index", "--", _NOTHING, path) for path in new if path]
    return changed + b"".join(added)


def changes() -> str | None:
    """Returns the digest of `diff`, sixteen digits, which the run has as the tag `caft.changes`; None without changes."""
    return digest(diff())


def digest(content: bytes) -> str | None:
    """Returns the digest of a diff; None of an empty one."""
    return hashlib.sha256(content).hexdigest()[:16] if content else None


def tags(content: bytes) -> dict[str, str]:
    """Tags that say which code with which diff, which DVC experiment and which process a run is from; none is empty."""
    found = {
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        COMMIT_TAG: commit() or "",
        CHANGES_TAG: digest(content) or "",
        HOST_TAG: socket.gethostname(),
        PROCESS_TAG: str(os.getpid()),
        STARTED_TAG: _started(os.getpid()) or "",
    }
    return {key: value for key, value in found.items() if value}


def source() -> dict[str, str]:
    """Tags that MLflow's pages show as who made a run, and by what: the user and the module that is running."""
    specification = getattr(sys.modules["__main__"], "__spec__", None)
    name = specification.name if specification is not None else Path(sys.argv[0]).name
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        user = ""
    found = {USER_TAG: user, SOURCE_TAG: name, SOURCE_TYPE_TAG: "LOCAL"}
    return {key: value for key, value in found.items() if value}


def end_abandoned(client: Any, experiment: str, but: str | None, over: Callable[[str], bool] | None) -> None:
    """Marks runs as KILLED that are RUNNING but whose process, or job, is gone.

    A run is left alone if this process cannot know: it is another machine's, or a job's and nobody tells of jobs.

    Args:
        client: Of the tracker.
        experiment: Id of the experiment.
        but: Id of the run that is being opened.
        over: Whether a job of a cluster, by its id, will not run again.
    """
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        if run.info.run_id == but:
            continue
        found = run.data.tags
        here = found.get(HOST_TAG) == socket.gethostname()
        alive = here and _started(int(found.get(PROCESS_TAG, 0))) == found.get(STARTED_TAG)
        if (job := found.get(JOB_TAG)) is not None:
            gone = over is not None and not alive and over(job)
        else:
            gone = here and not alive
        if gone:
            what = f"its job {job}" if job else f"its process {found.get(PROCESS_TAG)}"
            try:
                client.set_terminated(run.info.run_id, "KILLED")
            except Exception as error:  # it was deleted meanwhile, say; MLflow raises many types
                logger.warning(
                    "run %s is RUNNING, but %s is gone; it cannot be ended: %s", run.info.run_name, what, error
                )
                continue
            logger.warning("run %s was RUNNING, but %s is gone: it is KILLED now", run.info.run_name, what)


def _started(process: int) -> str | None:
    """When a process of this machine started, which tells it from later ones of its number; None if it does not run."""
    import psutil

    try:
        other = psutil.Process(process)
        return None if other.status() == psutil.STATUS_ZOMBIE else f"{other.create_time():.1f}"
    except (psutil.Error, ValueError):
        return None


def _git(*arguments: str) -> bytes:
    """Output of git; empty where there is no git or no checkout."""
    command: Sequence[str] = ("git", *arguments)
    try:
        done = subprocess.run(command, capture_output=True)
    except OSError:
        return b""
    # `git diff --no-index` ends with 1 where there are differences.
    return done.stdout if done.returncode == 0 or "--no-index" in arguments else b""
