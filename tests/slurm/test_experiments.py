"""Queued experiments train at the same time: each in a copy of the checkout, with a lock and a job of its own."""

import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import stages
from tests.faults.checkout import DVC, ENVIRONMENT, make_checkout
from tests.faults.conftest import Finished
from tests.slurm.cluster import Cluster
from tests.waiting import wait_until

pytestmark = pytest.mark.slow
LAUNCHER = {
    **{"nodes": 1, "tasks_per_node": 1, "gpus_per_node": 0, "cpus_per_task": 1, "workers": 0, "time_minutes": 30},
    "gpu_memory_gb": None,
    "slurm": {"partition": "gpu", "memory_gb": 8},
}
DATA = ["look", *(f"{stage}@scenes" for stage in ("source", "fetch", "captions", "sentences")), "select", "index"]


@pytest.fixture
def checkout(finished: Finished, tmp_path: Path) -> Path:
    """A git and DVC checkout whose stages up to `superpixels` are up to date."""
    finished.run_up_to("superpixels")
    here = make_checkout(tmp_path / "caft", {**stages.SETTINGS, "launch": "a100x8", "launchers": {"a100x8": LAUNCHER}})
    for name in ("data", "images", "models", "metrics"):
        shutil.copytree(finished.checkout / name, here / name, dirs_exist_ok=True)
    return here


@pytest.fixture
def call(checkout: Path, cluster: Cluster, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Calls dvc or git in the checkout; in the end no worker of the queue is left."""
    environment = {**ENVIRONMENT, **cluster.environment}

    def run(*command: str) -> str:
        # Into a file: workers of the queue keep what they inherit open until they end.
        with (tmp_path / "output").open("w+") as output:
            done = subprocess.run(command, cwd=checkout, env=environment, stdout=output, stderr=subprocess.STDOUT)
            output.seek(0)
            text = output.read()
        assert done.returncode == 0, (command, text[-4000:])
        return text

    yield run
    subprocess.run([*DVC, "queue", "stop", "--kill"], cwd=checkout, env=environment, stdout=subprocess.DEVNULL)


def test_two_experiments_have_their_jobs_in_flight_together(
    checkout: Path, call: Callable[..., str], cluster: Cluster
) -> None:
    call(*DVC, "commit", "--force", "--quiet", *DATA, "superpixels")
    call("git", "add", "--force", "dvc.lock", "metrics")
    call("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "-m", "Data are there")
    call(*DVC, "exp", "run", "--queue", "-S", "train.learning_rate=0.001,0.002", "train")
    call(*DVC, "queue", "start", "--jobs", "2")

    def jobs() -> dict[str, str]:
        """State of every job, of this test alone since tests leave none."""
        lines = cluster.call("squeue", "--noheader", "--format=%A %T").splitlines()
        return {job: state for job, state in map(str.split, lines)}

    wait_until(lambda: "RUNNING" in jobs().values(), 600)
    first = next(job for job, state in jobs().items() if state == "RUNNING")
    cluster.call("scontrol", "suspend", first)  # so that it cannot end before the other starts
    wait_until(lambda: sorted(jobs().values()) == ["RUNNING", "SUSPENDED"], 600)
    cluster.call("scontrol", "resume", first)
    assert list(jobs().values()) == ["RUNNING", "RUNNING"]

    def trained() -> dict[str, str]:
        """Learning rate and state of the tracked runs of trainings."""
        database = sqlite3.connect(checkout / "mlflow.db")
        try:
            found = database.execute(
                "SELECT params.value, status FROM runs JOIN params ON params.run_uuid = runs.run_uuid "
                "JOIN tags ON tags.run_uuid = runs.run_uuid "
                "WHERE params.key = 'train.learning_rate' AND tags.key = 'caft.fingerprint'"
            )
            return dict(found.fetchall())
        finally:
            database.close()

    wait_until(lambda: trained() == {"0.001": "FINISHED", "0.002": "FINISHED"}, 600)
    wait_until(lambda: call(*DVC, "queue", "status").count("Success") == 2, 120)
    rows = call(*DVC, "exp", "show", "--csv", "--no-pager").splitlines()
    column = (
        rows[0].split(",").index("learning_rate" if "learning_rate" in rows[0].split(",") else "train.learning_rate")
    )
    assert {"0.001", "0.002"} <= {row.split(",")[column] for row in rows[1:]}
