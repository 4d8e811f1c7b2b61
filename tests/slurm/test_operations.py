"""What people do around a training on Slurm: edit the checkout while it waits, and stop waiting for it."""

import os
import signal

import pytest

from tests.faults.checks import is_whole, refused
from tests.faults.conftest import Finished, wait_until
from tests.slurm.project import SLURM, Project

pytestmark = pytest.mark.slow


def test_a_job_that_waited_while_its_data_changed_ends_with_what_changed(project: Project, finished: Finished) -> None:
    finished.run_up_to("train")
    project.set({"nodes": 1, "tasks_per_node": 2, "slurm": {**SLURM, "sbatch": ["--begin=now+1hour"]}})
    stage = project.start()
    wait_until(lambda: bool(project.jobs()), 60)
    job = project.job()
    tokens = project.checkout / "data/index/tokens.npy"
    content = tokens.read_bytes()
    tokens.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    project.cluster.call("scontrol", "update", f"JobId={job}", "StartTime=now")
    done = stage.wait(120)
    refused(done, f"training job {job} failed")
    assert "data/index/tokens.npy changed since the job was submitted" in done.log
    assert not project.has("checkpoints/step-*.pt") and project.tracked_runs() == ["FAILED"]

    tokens.write_bytes(content)  # undone, the same run goes on
    project.set({"nodes": 1, "tasks_per_node": 2})
    done = project.start().wait()
    assert done.code == 0, done.log
    is_whole(finished, project.checkout, "train")


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.verify),
        pytest.param(signal.SIGHUP, marks=pytest.mark.verify),
    ],
)
def test_who_stops_waiting_is_told_which_job_goes_on(project: Project, number: signal.Signals) -> None:
    project.set({"nodes": 1, "tasks_per_node": 2, "slurm": {**SLURM, "sbatch": ["--begin=now+1hour"]}})
    stage = project.start()
    wait_until(lambda: bool(project.jobs()) and "requeued 0 times" in stage.log.read_text(), 60)
    job = project.job()
    os.kill(stage.id, number)
    done = stage.wait(60)
    assert done.code == 128 + number
    assert "Traceback" not in done.log
    assert done.log.splitlines()[-1] == (
        f"ended by {number.name}: job {job} goes on; `dvc repro` attaches to it again, `scancel {job}` ends it"
    )
    assert project.cluster.fields(job)["JobState"] == "PENDING"
    assert project.tracked_runs() == ["RUNNING"]  # as the job is


def test_two_experiments_that_differ_in_the_scoring_alone_share_one_job(project: Project, finished: Finished) -> None:
    finished.run_up_to("train")
    project.set({"nodes": 1, "tasks_per_node": 2})
    first = project.start()
    wait_until(lambda: bool(project.jobs()), 60)
    project.set({"nodes": 1, "tasks_per_node": 2}, evaluation={"box_mode": "crop"})
    second = project.start()
    ended = [stage.wait() for stage in (first, second)]
    assert [done.code for done in ended] == [0, 0], ended
    assert "is training this run; waiting for it to end" in ended[1].log
    assert "has ended before; its weights are taken" in ended[1].log and len(project.jobs()) == 1
    is_whole(finished, project.checkout, "train")
