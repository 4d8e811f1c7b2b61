"""Training that loses its launcher, is killed as a whole, or is started twice: the weights are those of one quiet run."""

import json
import os
import re
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import yaml
from mlflow import MlflowClient

from caft.locking import locked
from tests.faults import stages
from tests.faults.checks import is_whole, refused
from tests.faults.conftest import Finished
from tests.ports import free_port
from tests.train.servers import start_server, stop_server
from tests.waiting import wait_until

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
    wait_until(lambda: len(ranks(checkout)) == 2, 60)  # still starting: this must not cost the steps that follow
    second = stages.Stage("train", checkout)
    waits = f"process {first.id} on "
    wait_until(lambda: second.log.exists() and waits in second.log.read_text(), 60)
    assert "is training this run; waiting for it to end" in second.log.read_text()
    second.kill()
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


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("rank", "Gone without a word, as when killed or out of memory: rank "),
        ("loader", "a process that reads images was ended from outside. DataLoader worker (pid"),
    ],
)
def test_a_part_killed_alone_ends_the_run_with_one_error(part: str, words: str, finished: Finished, disk: Path) -> None:
    checkout = finished.before("train", disk)
    (checkout / "mlflow.db").unlink(missing_ok=True)
    stage = stages.Stage("train", checkout)
    wait_until(lambda: len(ranks(checkout)) == 2 and any(checkout.glob("runs/*/superpixels-*.npy")), 180)
    rank = ranks(checkout)[1]
    if part == "loader":
        wait_until(lambda: any(loaders(rank)), 60)
    killed = loaders(rank)[0] if part == "loader" else rank
    killed.kill()
    done = stage.wait(120)
    refused(done, "training job")
    assert "`dvc repro` again continues from the last checkpoint" in done.log
    assert words in done.log
    wait_until(lambda: not ranks(checkout), 10)  # a loader sees within seconds that its rank is gone
    assert status(checkout) == ["FAILED"]


def loaders(rank: psutil.Process) -> list[psutil.Process]:
    """Processes that read images for a rank: forks, so they have its command."""
    return [child for child in rank.children() if child.cmdline() == rank.cmdline()]


def status(checkout: Path) -> list[str]:
    """States of the tracked runs."""
    with closing(sqlite3.connect(checkout / "mlflow.db")) as database:
        return [found for (found,) in database.execute("SELECT status FROM runs")]


@pytest.mark.verify
def test_the_same_training_wanted_twice_is_done_once_and_sigterm_ends_a_third_as_ctrl_c_does(
    finished: Finished, disk: Path
) -> None:
    checkout = finished.before("train", disk)
    (checkout / "mlflow.db").unlink(missing_ok=True)
    third = stages.Stage("train", checkout)
    wait_until(lambda: len(ranks(checkout)) == 2, 60)
    os.kill(third.id, signal.SIGTERM)
    done = third.wait(60)
    assert done.code == 128 + signal.SIGTERM
    assert done.log.endswith("ended by SIGTERM: run it again, and it goes on\n") and "Traceback" not in done.log
    wait_until(lambda: not ranks(checkout), 10)
    assert status(checkout) == ["FAILED"]

    first = stages.Stage("train", checkout)
    wait_until(lambda: len(ranks(checkout)) == 2, 60)
    # The second differs in what changes no weight: when something is written or looked at.
    path = checkout / "params.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["train"] |= {"checkpoint_every": 15, "validate_every": 40}
    path.write_text(yaml.safe_dump(settings))
    second = stages.Stage("train", checkout)
    ended = [stage.wait() for stage in (first, second)]
    assert [done.code for done in ended] == [0, 0], ended
    assert f"process {first.id} on" in ended[1].log and "has ended before; its weights are taken" in ended[1].log
    assert stages.content(checkout / "models/caft.safetensors") == finished.content(Path("models/caft.safetensors"))
    assert json.loads((checkout / "models/caft.json").read_text())["recipe"]["checkpoint_every"] == 15
    assert len(list(checkout.glob("runs/*/jobs"))) == 1 and status(checkout) == ["FINISHED"]

    # Trained with these settings, the weights are the same.
    [folder] = [path.parent for path in checkout.glob("runs/*/jobs")]
    shutil.rmtree(folder)
    assert stages.run("train", checkout).code == 0
    assert stages.content(checkout / "models/caft.safetensors") == finished.content(Path("models/caft.safetensors"))


def test_a_finished_run_is_taken_only_as_it_was_written(finished: Finished, disk: Path) -> None:
    finished.run_up_to("train")
    checkout = finished.copied(disk)
    for out in stages.outs("train"):
        stages.remove(checkout, out)
    [folder] = [path.parent for path in checkout.glob("runs/*/final.safetensors")]
    spoilt = bytearray((folder / "final.safetensors").read_bytes())
    spoilt[-1] ^= 1
    (folder / "final.safetensors").write_bytes(spoilt)
    done = stages.run("train", checkout)
    assert done.code == 0 and "final.safetensors holds other bytes than were written" in done.log, done.log
    is_whole(finished, checkout, "train")
    (folder / "metrics.jsonl").unlink()  # as where a scratch disk is cleaned
    for path in folder.glob("superpixels-*.npy"):
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    done = stages.run("train", checkout)
    assert done.code == 0 and "metrics.jsonl is not there" in done.log, done.log
    is_whole(finished, checkout, "train")


def test_a_run_that_is_left_is_told_once_and_ranks_are_another_run(finished: Finished, disk: Path) -> None:
    checkout = finished.before("train", disk)
    first = stages.Stage("train", checkout)
    wait_until(lambda: any(checkout.glob("runs/*/checkpoints/step-*.json")), 180)
    first.kill()
    wait_until(lambda: not ranks(checkout), 10)
    [left] = [path.name for path in (checkout / "runs").iterdir()]
    path = checkout / "params.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["launchers"]["local"]["tasks_per_node"] = 1
    path.write_text(yaml.safe_dump(settings))
    done = stages.run("train", checkout)
    assert done.code == 0
    assert re.search(rf"run {left} was begun and is left at step \d+, since this is another: ranks 2 -> 1\.", done.log)
    assert stages.content(checkout / "models/caft.safetensors") != finished.content(Path("models/caft.safetensors"))
    again = stages.run("train", checkout)
    assert again.code == 0 and "is left at step" not in again.log


@pytest.mark.verify
def test_a_tracking_server_that_stops_ends_no_training(finished: Finished, disk: Path, tmp_path: Path) -> None:
    checkout = finished.before("train", disk)
    (tmp_path / "server").mkdir()
    port = free_port()
    path = checkout / "params.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["storage"]["tracking_uri"] = f"http://127.0.0.1:{port}"
    path.write_text(yaml.safe_dump(settings))
    server = start_server(tmp_path / "server", port)
    try:
        stage = stages.Stage("train", checkout)
        wait_until(lambda: len(ranks(checkout)) == 2, 120)
        stop_server(server)
        wait_until(lambda: "The training goes on" in stage.log.read_text(), 180)
        server = start_server(tmp_path / "server", port)
        done = stage.wait()
        assert done.code == 0, done.log
        is_whole(finished, checkout, "train")
        client = MlflowClient(f"http://127.0.0.1:{port}")
        [run] = client.search_runs([client.get_experiment_by_name("caft").experiment_id])
        assert run.info.status == "FINISHED"
        assert [point.step for point in client.get_metric_history(run.info.run_id, "curves/train/loss")] == [
            10,
            20,
            30,
            40,
        ]
    finally:
        stop_server(server)


def test_a_lock_says_who_has_it(tmp_path: Path) -> None:
    from caft.errors import LaunchError

    with locked(tmp_path, "training this run"):
        with pytest.raises(LaunchError, match=rf"process {os.getpid()} on .+ is training this run; wait for it or end"):
            with locked(tmp_path, "training this run", patience=0.3):
                pass
    with locked(tmp_path, "training this run", patience=0):
        pass
