"""Training that loses its launcher, is killed as a whole, or is started twice: the weights are those of one quiet run."""

import os
import re
import signal
from pathlib import Path

import psutil
import pytest

from caft.locking import locked
from tests.faults import stages
from tests.faults.checks import is_whole, refused
from tests.faults.conftest import Finished, wait_until

pytestmark = pytest.mark.slow


def ranks(checkout: Path) -> list[psutil.Process]:
    """Processes of jobs that stages in a checkout have submitted, without the loaders of those that are alive."""
    found = {}
    for process in psutil.process_iter(["cmdline", "status", "ppid"]):
        words = " ".join(process.info["cmdline"] or [])
        if "submitit.core._submit" in words and str(checkout) in words:
            if process.info["status"] != psutil.STATUS_ZOMBIE:
                found[process.pid] = process
    return [process for process in found.values() if process.info["ppid"] not in found]


def test_a_run_that_is_killed_again_and_again_ends_with_the_weights_of_a_quiet_one(
    finished: Finished, disk: Path
) -> None:
    checkout = finished.before("train", disk)

    def steps() -> int:
        return max((int(path.stem[5:]) for path in checkout.glob("runs/*/checkpoints/step-*.pt")), default=0)

    assert not ranks(checkout)
    first = stages.Stage("train", checkout)
    wait_until(lambda: len(ranks(checkout)) == 2, 60)  # still starting: the refusal must not cost the steps that follow
    second = stages.run("train", checkout)
    refused(second, f"process {first.id} on ")
    assert "is training this run; wait for it or end it" in second.log
    wait_until(lambda: steps() >= stages.CHECKPOINT_EVERY, 180)
    # The launcher alone: its ranks must not go on for nobody.
    assert len(ranks(checkout)) == 2
    os.kill(first.id, signal.SIGKILL)
    wait_until(lambda: not ranks(checkout), 10)
    reached = steps()
    assert stages.CHECKPOINT_EVERY <= reached < stages.STEPS
    assert not any((checkout / out).exists() for out in stages.outs("train"))

    third = stages.Stage("train", checkout)
    wait_until(lambda: steps() > reached, 180)
    third.kill()
    wait_until(lambda: not ranks(checkout), 10)
    reached = steps()
    assert reached < stages.STEPS

    last = stages.run("train", checkout)
    assert last.code == 0, last.log
    is_whole(finished, checkout, "train")  # weights to the bit, and curves without a step twice
    (job,) = re.findall(r"job (\d+), logs", last.log)
    (log,) = checkout.glob(f"runs/*/jobs/{job}_0_log.err")
    assert f"resuming at step {reached} of {stages.STEPS}" in log.read_text()


def test_a_rank_killed_alone_ends_the_run_with_one_error(finished: Finished, disk: Path) -> None:
    checkout = finished.before("train", disk)
    stage = stages.Stage("train", checkout)
    wait_until(lambda: len(ranks(checkout)) == 2 and any(checkout.glob("runs/*/superpixels-*.npy")), 180)
    ranks(checkout)[1].kill()
    done = stage.wait(120)
    refused(done, "training job")
    assert "`dvc repro` again continues from the last checkpoint" in done.log
    wait_until(lambda: not ranks(checkout), 10)  # a loader sees within seconds that its rank is gone


def test_a_lock_says_who_has_it(tmp_path: Path) -> None:
    from caft.errors import LaunchError

    with locked(tmp_path, "training this run"):
        with pytest.raises(LaunchError, match=rf"process {os.getpid()} on .+ is training this run; wait for it or end"):
            with locked(tmp_path, "training this run", patience=0.3):
                pass
    with locked(tmp_path, "training this run", patience=0):
        pass
