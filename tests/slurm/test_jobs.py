"""The stage train as a job of a real Slurm: preempted, at its time limit, cancelled, killed, abandoned, refused."""

import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.faults.checks import is_whole, refused
from tests.faults.conftest import Finished
from tests.slurm.project import SLURM, Project
from tests.waiting import wait_until

pytestmark = pytest.mark.slow
ONE_NODE, TWO_NODES = {"nodes": 1, "tasks_per_node": 2}, {"nodes": 2, "tasks_per_node": 1}
LONG = {"train": {"samples": 8 * 10000, "warmup_steps": 5}}


def ranks(checkout: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if "submitit.core._submit" in (words := " ".join(process.info["cmdline"] or []))
        and f"{checkout}/runs/" in words
        and words.split()[0].endswith(("python", "python3", "python3.11"))
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def restarted(project: Project, job: str) -> None:
    """Waits until a job is queued again, and has it started at once rather than in two minutes."""
    wait_until(lambda: project.cluster.fields(job)["Restarts"] == "1", 170)
    wait_until(lambda: project.cluster.fields(job)["JobState"] in ("PENDING", "RUNNING"), 60)
    if project.cluster.fields(job)["JobState"] == "PENDING":
        project.cluster.call("scontrol", "update", f"JobId={job}", "StartTime=now")


def test_one_node_two_ranks_preempted_goes_on_to_the_weights_of_a_quiet_run(
    project: Project, finished: Finished
) -> None:
    finished.run_up_to("train")
    # Not by `gpus_per_node`, where the CPU would have to round natively.
    options = ["--exclusive", "--comment=ours", "--gpus-per-node=2"]
    project.set({**ONE_NODE, "slurm": {**SLURM, "sbatch": options}})
    stage = project.start()
    wait_until(lambda: project.has("superpixels-0-of-2.npy"), 120)
    job = project.job()
    fields = project.cluster.fields(job)
    assert fields["Partition"] == "gpu" and fields["Comment"] == "ours" and fields["MinMemoryNode"] == "8G"
    assert fields["NumNodes"] == "1" and fields["NumTasks"] == "2" and fields["TimeLimit"] == "00:30:00"
    assert fields["TresPerNode"] == "gres:gpu:2"
    project.cluster.call("scancel", "--signal=USR2", job)
    restarted(project, job)
    done = stage.wait()
    assert done.code == 0, done.log
    assert project.jobs() == [job]
    log = project.log_of(job)
    assert "notice to leave: saving step" in log and "resuming at step" in log
    is_whole(finished, project.checkout, "train")  # weights to the bit, and curves without a step twice
    assert project.tracked_runs() == ["FINISHED"]
    assert f"job {job}: COMPLETED, requeued 1 times" in done.log


def test_two_nodes_outlive_their_launcher_and_the_next_one_attaches(project: Project, finished: Finished) -> None:
    finished.run_up_to("train")
    project.set(TWO_NODES)
    stage = project.start()
    wait_until(lambda: bool(ranks(project.checkout)), 60)
    stage.kill()
    job = project.job()
    assert project.cluster.fields(job)["NumNodes"] == "2"
    project.cluster.call("scontrol", "suspend", job)  # so that it cannot end before the next launcher looks
    stage = project.start()
    attached = f"job {job} of this run is under way: attached to it"
    wait_until(lambda: stage.log.exists() and attached in stage.log.read_text(), 60)
    project.cluster.call("scontrol", "resume", job)
    done = stage.wait()
    assert done.code == 0, done.log
    assert project.jobs() == [job]
    is_whole(finished, project.checkout, "train")
    assert project.tracked_runs() == ["FINISHED"]


def test_a_killed_rank_ends_the_others_and_a_cancelled_job_ends_its_launcher(project: Project) -> None:
    project.set(ONE_NODE, **LONG)
    stage = project.start()
    wait_until(lambda: project.has("checkpoints/step-*.json"), 180)
    first = project.job()
    ranks(project.checkout)[1].send_signal(signal.SIGKILL)
    begun = time.monotonic()
    wait_until(lambda: not ranks(project.checkout), 30)
    done = stage.wait(60)
    assert time.monotonic() - begun < 60
    refused(done, f"training job {first} failed (FAILED, exit code ")
    assert "`dvc repro` again continues from the last checkpoint" in done.log
    assert "Gone without a word, as when killed or out of memory: rank " in done.log
    assert not project.has("final.safetensors")

    stage = project.start()
    wait_until(lambda: len(project.jobs()) == 2, 60)
    [second] = set(project.jobs()) - {first}
    wait_until(
        lambda: "resuming at step" in project.log_of(second) if project.has(f"jobs/{second}_0_log.err") else False, 120
    )
    project.cluster.call("scancel", second)  # what the launcher says
    begun = time.monotonic()
    done = stage.wait(60)
    assert time.monotonic() - begun < 60
    refused(done, f"training job {second} failed (CANCELLED")
    assert f"to end it for good: scancel {second}" in done.log
    assert not ranks(project.checkout)
    assert project.tracked_runs() == ["FAILED"]


def test_more_cards_than_there_are_is_refused_at_once(project: Project) -> None:
    project.set({"nodes": 1, "tasks_per_node": 8, "slurm": {**SLURM, "sbatch": ["--gpus-per-node=8"]}})
    done = project.start().wait(60)
    refused(
        done, "Slurm does not take the job: Batch job submission failed: Requested node configuration is not available"
    )
    assert not project.cluster.call("squeue", "--noheader").strip()
    assert not project.has("job.json")


def test_at_its_time_limit_a_job_is_queued_again_and_resumes(project: Project) -> None:
    # Slurm looks at limits every half minute and may give notice a minute early, but not before ranks have started.
    project.set({**ONE_NODE, "time_minutes": 2}, **LONG)
    stage = project.start()
    wait_until(lambda: bool(project.jobs()), 60)
    job = project.job()
    restarted(project, job)
    wait_until(lambda: "resuming at step" in project.log_of(job), 120)
    assert "notice to leave: saving step" in project.log_of(job)
    assert "timed-out" in project.log_of(job)
    project.cluster.call("scancel", job)
    refused(stage.wait(60), f"training job {job} failed (CANCELLED")
