"""What is asked of a real Slurm without accounting, and what is said where there is none."""

from collections.abc import Callable
from pathlib import Path

import pytest

from caft.errors import LaunchError, UnderWayError
from caft.params import load_params
from slurm import queue
from slurm import submit as submission
from slurm.submit import executor
from tests.slurm.cluster import Cluster
from tests.waiting import wait_until

PROJECT = Path(__file__).parents[2]


def submit(cluster: Cluster, command: str, *options: str) -> str:
    return cluster.call("sbatch", "--parsable", "--output=/dev/null", *options, f"--wrap={command}").strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "name", "good"),
    [("true", "COMPLETED", True), ("exit 7", "FAILED", False), ("kill -9 $$", "FAILED", False)],
)
def test_ends_are_told_apart(here: Cluster, command: str, name: str, good: bool) -> None:
    job = submit(here, command)
    wait_until(lambda: queue.state(job).is_over, 30)
    found = queue.state(job)
    assert (found.name, found.is_good) == (name, good)
    if command == "exit 7":
        assert found.detail == "exit code 7:0"


@pytest.mark.slow
def test_jobs_are_found_by_name_while_they_wait_or_run(here: Cluster) -> None:
    running = submit(here, "sleep 60", "--job-name=caft-a")
    waiting = submit(here, "sleep 60", "--job-name=caft-a", "--begin=now+1hour")
    other = submit(here, "sleep 60", "--job-name=caft-b")
    assert queue.alive("caft-a") == [running, waiting]
    assert queue.alive("caft-c") == []
    assert queue.state(waiting).name == "PENDING" and not queue.state(waiting).is_over
    here.call("scancel", running, waiting, other)
    wait_until(lambda: queue.alive("caft-a") == [], 30)
    assert queue.state(waiting).name == "CANCELLED"
    assert queue.state("999999").name == "UNKNOWN"  # and no accounting that would know


@pytest.mark.slow
def test_a_node_is_reached_as_slurm_reaches_it(here: Cluster) -> None:
    assert queue.node_address("n2") == "127.0.0.1"


def test_a_launchers_gpus_are_asked_for(require_system: Callable[[str], str], tmp_path: Path) -> None:
    require_system("sbatch")
    asked = executor(load_params(PROJECT / "params.yaml").launchers["a100x8"], tmp_path, "caft-x").parameters
    assert (asked["nodes"], asked["ntasks_per_node"], asked["gpus_per_node"]) == (1, 8, 8)


def test_without_slurm_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    launcher = load_params(PROJECT / "params.yaml").launchers["a100x8"]
    with pytest.raises(LaunchError, match="sbatch is not found, so there is no Slurm here"):
        executor(launcher, tmp_path, "caft-x")
    with pytest.raises(queue.NoAnswer, match=r"scontrol gives no answer \(scontrol is not found\)"):
        queue.state("1")


def test_a_job_whose_controller_is_silent_may_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # nobody can be asked
    monkeypatch.setattr(submission, "_SILENCE_SECONDS", 0.5)
    settings = load_params(PROJECT / "params.yaml").launchers["a100x8"].slurm
    assert settings is not None
    with pytest.raises(UnderWayError, match="scontrol gives no answer .* attaches to job 71 again"):
        submission._wait("71", settings, lambda: None)
    with pytest.raises(UnderWayError, match="squeue gives no answer"):  # before anything is submitted
        queue.alive("caft-run")
