"""What people do around a training on Slurm: edit the checkout while it waits, and stop waiting for it."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import stages
from tests.faults.checkout import ENVIRONMENT, make_checkout
from tests.faults.checks import is_whole, refused
from tests.faults.conftest import Finished
from tests.slurm.cluster import Cluster
from tests.slurm.project import SLURM, Project
from tests.waiting import wait_until

pytestmark = pytest.mark.slow


def test_a_job_that_waited_while_its_data_changed_ends_with_what_changed(project: Project) -> None:
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


def test_a_job_that_waited_while_its_code_was_edited_ends_with_what_changed(
    finished: Finished, cluster: Cluster, tmp_path: Path
) -> None:
    """In a checkout of its own, whose code the job imports: the loss times 100, then `git checkout` of the file."""
    finished.run_up_to("train")
    launcher = {"executor": "slurm", "time_minutes": 30}
    waiting = {**launcher, "slurm": {**SLURM, "sbatch": ["--begin=now+1hour"]}}
    checkout = make_checkout(tmp_path / "caft", {**stages.SETTINGS, "launchers": {"local": waiting}})
    for name in ("data", "images", "models", "metrics"):
        shutil.copytree(finished.checkout / name, checkout / name, dirs_exist_ok=True)
    for out in stages.outs("train"):
        stages.remove(checkout, out)
    environment = {**ENVIRONMENT, **cluster.environment, "CAFT_STORAGE": str(checkout), "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-m", "pipelines.train"]

    def job() -> str | None:
        [*records] = checkout.glob("runs/*/job.json")
        return re.findall(r'"id": "(\d+)"', records[0].read_text())[0] if records else None

    stage = subprocess.Popen(command, cwd=checkout, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: job() is not None, 60)
        identity = job()
        assert identity is not None
        trainer = checkout / "caft/train/trainer.py"
        before = trainer.read_text()
        trainer.write_text(before.replace('loss = terms["loss"]\n', 'loss = terms["loss"] * 100\n'))
        assert trainer.read_text() != before
        cluster.call("scontrol", "update", f"JobId={identity}", "StartTime=now")
        _, said = stage.communicate(timeout=800)
    finally:
        stage.kill()
        if identity := job():
            cluster.call("scancel", identity)
    assert stage.returncode == 2, said
    assert "caft/train/trainer.py changed since the job was submitted" in said
    assert not any(checkout.glob("runs/*/final.safetensors")) and not any(checkout.glob("runs/*/checkpoints/step-*.pt"))
    assert not (checkout / "models/caft.safetensors").exists()

    subprocess.run(["git", "checkout", "--quiet", "caft/train/trainer.py"], cwd=checkout, check=True)
    at_once = ["--set", "launchers.local.slurm.sbatch=[]"]
    done = subprocess.run([*command, *at_once], cwd=checkout, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list(checkout.glob("runs/*/final.safetensors"))) == 1  # under the same name
    is_whole(finished, checkout, "train")


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
