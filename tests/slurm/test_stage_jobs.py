"""A stage other than train as a job."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.checks import is_whole, refused
from tests.faults.conftest import Finished
from tests.slurm.cluster import Cluster
from tests.slurm.project import Project
from tests.waiting import wait_until

pytestmark = pytest.mark.slow
ONE_RANK = {"nodes": 1, "tasks_per_node": 1}


@pytest.fixture
def project(cluster: Cluster, finished: Finished, disk: Path) -> Iterator[Project]:
    finished.run_up_to("evaluate_regions")
    made = Project(finished.before("evaluate_regions", disk), cluster, "evaluate_regions")
    made.set(ONE_RANK)
    yield made
    made.end()


def test_a_stage_is_a_job_that_the_next_launcher_finds(project: Project, finished: Finished) -> None:
    stage = project.start()
    wait_until(lambda: bool(project.jobs()), 60)
    job = project.job()
    wait_until(lambda: project.cluster.fields(job)["JobState"] == "RUNNING", 30)
    project.cluster.call("scontrol", "suspend", job)
    stage.kill()
    stage = project.start()
    attached = f"job {job} of this run is under way: attached to it"
    wait_until(lambda: stage.log.exists() and attached in stage.log.read_text(), 60)
    project.cluster.call("scontrol", "resume", job)
    done = stage.wait()
    assert done.code == 0, done.log
    assert project.jobs() == [job] and project.cluster.fields(job)["JobName"].startswith("caft-evaluate_regions-")
    is_whole(finished, project.checkout, "evaluate_regions")


def test_what_the_stage_says_is_what_its_launcher_says(project: Project) -> None:
    (project.checkout / "models/caft.json").unlink()
    done = project.start().wait()
    refused(done, f"evaluate_regions's job {project.job()} failed (FAILED, exit code 1:0)")
    assert "The reason:\n  models/caft" in done.log and "`dvc repro` again runs the stage again" in done.log
