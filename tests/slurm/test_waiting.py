"""Waiting for jobs that do nothing: the deadline, a node that is lost, and a Slurm that forgets."""

import functools
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from caft.errors import LaunchError, UnderWayError
from caft.params import load_params
from caft.params.settings import LauncherParams
from slurm import queue, submit
from tests.slurm.cluster import Cluster
from tests.waiting import wait_until

pytestmark = pytest.mark.slow
PROJECT = Path(__file__).parents[2]


def launcher(**slurm: object) -> LauncherParams:
    preset = load_params(PROJECT / "params.yaml").launchers["a100x8"]
    assert preset.slurm is not None
    asked = preset.slurm.model_copy(update={"partition": "gpu", "memory_gb": 1, **slurm})
    shape = {"nodes": 1, "tasks_per_node": 1, "gpus_per_node": 0, "cpus_per_task": 1, "slurm": asked}
    return preset.model_copy(update=shape)


def run(job: Callable[[], object], settings: LauncherParams, folder: Path) -> None:
    submit.run(job, settings, folder)


@pytest.fixture
def folder(here: Cluster, tmp_path: Path) -> Path:
    """Of a run, whose name is the job's."""
    return tmp_path / f"waiting-{os.getpid()}-{tmp_path.name}"


def test_after_its_deadline_a_launcher_leaves_the_job_to_the_next_one(
    here: Cluster, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job, later = functools.partial(Path.touch, tmp_path / "ran"), ("--begin=now+1hour",)
    words = r"job (\d+) is PENDING after 0.001 hours \(deadline_hours\); it goes on.*`scancel \1` ends it"
    with pytest.raises(UnderWayError, match=words):
        run(job, launcher(sbatch=later, deadline_hours=0.001), folder)
    [identity] = queue.alive(f"caft-{folder.name}")
    assert queue.state(identity).name == "PENDING"
    here.call("scontrol", "update", f"JobId={identity}", "StartTime=now")
    with caplog.at_level(logging.INFO):
        run(job, launcher(sbatch=later), folder)
    assert (tmp_path / "ran").exists()
    assert f"job {identity} of this run is under way: attached to it" in caplog.text or (
        queue.state(identity).name == "COMPLETED"
    )


def test_a_job_that_is_held_is_told_and_goes_on_when_it_is_released(
    here: Cluster, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def release() -> None:
        told = re.search(
            r"job (\d+) is held and will not start by itself: `scontrol release \1` lets it go", caplog.text
        )
        if told and queue.state(told[1]).is_held:
            here.call("scontrol", "release", told[1])

    with caplog.at_level(logging.INFO):
        submit.run(functools.partial(Path.touch, tmp_path / "ran"), launcher(sbatch=("--hold",)), folder, release)
    assert (tmp_path / "ran").exists()
    assert "PENDING, JobHeldUser, requeued 0 times" in caplog.text


def test_a_job_that_lost_its_node_goes_on_on_another_and_its_launcher_waits(
    here: Cluster, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    started = tmp_path / "started"
    first_time = f'if [ -z "$SLURM_RESTART_COUNT" ]; then touch {started}; sleep 600; fi'
    job = functools.partial(subprocess.check_call, ["bash", "-c", first_time])
    lost: dict[str, str] = {}

    def lose_the_node() -> None:
        if not lost and started.exists():
            [identity] = queue.alive(f"caft-{folder.name}")
            lost[identity] = here.fields(identity)["BatchHost"]
            here.call("scontrol", "update", f"NodeName={lost[identity]}", "State=DOWN", "Reason=test")
            wait_until(lambda: here.fields(identity)["JobState"] == "PENDING", 60)
            # The daemon of this node still runs, so Slurm would take it again, before it has cleaned up.
            here.call("scontrol", "update", f"JobId={identity}", f"ExcNodeList={lost[identity]}", "StartTime=now")

    try:
        with caplog.at_level(logging.INFO):
            submit.run(job, launcher(), folder, lose_the_node)
    finally:
        for node in lost.values():
            if "DOWN" in here.call("scontrol", "show", "node", node):  # it may have come back by itself
                here.call("scontrol", "update", f"NodeName={node}", "State=RESUME")
    [(identity, node)] = lost.items()
    assert f"job {identity}: COMPLETED, requeued 1 times" in caplog.text
    assert here.fields(identity)["BatchHost"] != node


def test_what_the_controller_has_forgotten_the_accounting_or_the_ranks_tell(
    here: Cluster, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accounting is a double that answers as sacct does; the forgetting too, since it takes minutes."""
    for program in ("scontrol", "squeue", "sbatch"):
        path = shutil.which(program)
        assert path
        (tmp_path / program).symlink_to(path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    if shutil.which("sacct") is None:
        assert queue.state("999999") == queue.State("UNKNOWN")
    sacct = tmp_path / "sacct"
    sacct.write_text("#!/bin/sh\n[ \"$6\" = 999999 ] && echo 'CANCELLED by 1000|0:15'\n")
    sacct.chmod(0o755)
    assert queue.state("999999") == queue.State("CANCELLED", "exit code 0:15")
    sacct.write_text("#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2\nexit 1\n")
    assert queue.state("999999") == queue.State("UNKNOWN")

    known = queue.state

    def forgetful(job: str) -> queue.State:
        return found if not (found := known(job)).is_over else queue.State("UNKNOWN")

    monkeypatch.setattr(queue, "state", forgetful)
    run(functools.partial(Path.touch, tmp_path / "ran"), launcher(), folder)
    assert (tmp_path / "ran").exists()
    with pytest.raises(LaunchError, match=r"failed \(UNKNOWN\).*(?s:.)*CalledProcessError"):
        run(functools.partial(subprocess.check_call, ["false"]), launcher(), folder)
