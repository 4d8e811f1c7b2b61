"""What jobs make of a time limit that nears: Slurm's signal, and the time left that a rank looks at by itself."""

import functools
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from caft.errors import LaunchError
from slurm import rank, submit
from slurm.rank import Interruptible, Notice
from tests.slurm.cluster import Cluster
from tests.slurm.test_waiting import folder, launcher  # noqa: F401

pytestmark = pytest.mark.slow
MINUTE = 60


@dataclass(frozen=True)
class Watch:
    """Looks at the notice until it is given, or for half a minute, and writes down when that was."""

    file: Path
    seconds: float = 30.0

    def __call__(self, notice: Notice) -> None:
        begun = time.monotonic()
        while not (given := notice.given) and time.monotonic() - begun < self.seconds:
            time.sleep(0.1)
        self.file.write_text(json.dumps({"given": given, "seconds": time.monotonic() - begun}))


@dataclass(frozen=True)
class Unanswered:
    """Looks at notices of its own while the commands of Slurm are out of reach, and writes down what they say.

    The first was told of the limit, and then nobody answers; the second is told of it only later.
    """

    file: Path
    seconds: int

    def __call__(self, notice: Notice) -> None:
        path = os.environ["PATH"]
        known = Notice(self.seconds)
        os.environ["PATH"] = ""
        unknown = Notice(self.seconds)
        time.sleep(8)  # the limit is near now
        found = {"known": known.given, "unknown": unknown.given}
        os.environ["PATH"] = path
        time.sleep(1.5)
        self.file.write_text(json.dumps({**found, "later": unknown.given}))


def asking_soon(file: Path, seconds: int, notice: Notice) -> None:
    rank._ASK_AGAIN_SECONDS = 1.0
    Unanswered(file, seconds)(notice)


def end_as_before_python_can() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGUSR2)
    time.sleep(10)


def test_a_rank_looks_at_the_time_left_by_itself(here: Cluster, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    """Slurm is told to give its own notice in the last second, which it does up to half a minute early."""
    settings = launcher(sbatch=("--signal=USR2@1",)).model_copy(update={"time_minutes": 2})
    submit.run(Interruptible(Watch(tmp_path / "late"), 2 * MINUTE - 8), settings, folder)
    found = json.loads((tmp_path / "late").read_text())
    assert found["given"] and found["seconds"] < 9
    submit.run(Interruptible(Watch(tmp_path / "early", 3.0), MINUTE), settings, folder)
    assert not json.loads((tmp_path / "early").read_text())["given"]


def test_a_limit_that_was_moved_is_the_one_that_counts(here: Cluster, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    settings = launcher().model_copy(update={"time_minutes": 2})
    moved: list[str] = []

    def move() -> None:
        [job] = {line.split()[0] for line in here.call("squeue", "--noheader", "--format=%A %T").splitlines()} or {""}
        if job and not moved and here.fields(job)["JobState"] == "RUNNING":
            here.call("scontrol", "update", f"JobId={job}", "TimeLimit=10")
            moved.append(job)

    submit.run(Interruptible(Watch(tmp_path / "moved", 12.0), 2 * MINUTE - 5), settings, folder, move)
    assert moved and not json.loads((tmp_path / "moved").read_text())["given"]


def test_a_limit_holds_while_slurm_does_not_answer(here: Cluster, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    settings = launcher().model_copy(update={"time_minutes": 2})
    job = functools.partial(asking_soon, tmp_path / "found", 2 * MINUTE - 6)
    submit.run(Interruptible(job), settings, folder)
    assert json.loads((tmp_path / "found").read_text()) == {"known": True, "unknown": False, "later": True}


def test_a_signal_that_no_rank_could_take_is_told_as_such(here: Cluster, folder: Path) -> None:  # noqa: F811
    with pytest.raises(LaunchError, match=r"SIGUSR2\), which came before a rank could take it") as caught:
        submit.run(end_as_before_python_can, launcher(), folder)
    assert "time_minutes (1440)" in str(caught.value) and "notice_seconds (120)" in str(caught.value)
    assert "killed or out of memory" not in str(caught.value)
