"""Two ranks that die at random steps, come back fewer, or meet numbers that are none."""

import collections
import json
import logging
import multiprocessing
import os
import random
import re
import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from caft.params import load_params
from caft.train import seal
from caft.train.job import TrainJob
from tests.faults import stages
from tests.faults.conftest import Finished
from tests.ports import free_port

pytestmark = pytest.mark.slow
SIZE = 2


@dataclass(frozen=True)
class Fault:
    """What happens to the ranks of a job: a death at a step, or images with which the loss is not a number."""

    step: int | None = None
    rank: int = 0
    images: frozenset[int] = frozenset()
    always: bool = False


QUIET = Fault()


def run_rank(job: TrainJob, rank: int, size: int, port: int, fault: Fault) -> None:
    """One rank, as its launcher would start it."""
    # The loader's processes are to be the rank's own, as in a program; else a killed rank would leave a server of them.
    multiprocessing.set_start_method("fork", force=True)
    log = os.open(job.run_folder / f"rank-{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    logging.getLogger().handlers.clear()
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1")
    os.environ.update(MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    from caft.train.task import TrainingTask
    from caft.train.trainer import Trainer

    one_step, forward = Trainer._one_step, TrainingTask.forward
    spoilt = False

    def disturbed_step(self: Trainer, batch: Any, labels: Any) -> Any:
        nonlocal spoilt
        if self.step == fault.step and rank == fault.rank:
            os.kill(os.getpid(), signal.SIGKILL)
        spoilt = fault.always or bool(fault.images & set(batch.batch.rows.tolist()))
        return one_step(self, batch, labels)

    def disturbed_forward(self: TrainingTask, *arguments: Any) -> Any:
        terms = forward(self, *arguments)
        return {**terms, "loss": terms["loss"] * float("nan")} if spoilt else terms

    Trainer._one_step = disturbed_step  # type: ignore[method-assign]
    TrainingTask.forward = disturbed_forward  # type: ignore[method-assign]
    job()


@dataclass(frozen=True)
class Run:
    """A run of two ranks."""

    job: TrainJob

    def live(self, fault: Fault = QUIET, size: int = SIZE) -> list[int]:
        """Starts ranks and waits for their ends; gives their exit codes."""
        self.job.run_folder.mkdir(exist_ok=True)
        forks, port = multiprocessing.get_context("forkserver"), free_port()
        ranks = [forks.Process(target=run_rank, args=(self.job, r, size, port, fault)) for r in range(size)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(120)
        assert all(rank.exitcode is not None for rank in ranks), self.log()
        return [rank.exitcode for rank in ranks if rank.exitcode is not None]

    def log(self, rank: int = 0) -> str:
        return (self.job.run_folder / f"rank-{rank}.log").read_text()

    def rows(self) -> list[dict[str, Any]]:
        lines = (self.job.run_folder / "metrics.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if k not in stages.TIMES} for line in lines]

    def weights(self) -> bytes:
        return (self.job.run_folder / "final.safetensors").read_bytes()


@pytest.fixture(scope="module")
def quiet(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Run:
    finished.run_up_to("superpixels")
    checkout = finished.checkout
    params = load_params(checkout / "params.yaml")
    folder = tmp_path_factory.mktemp("quiet") / "run"
    sfcn = checkout / "models/sfcn.safetensors"
    card = {"fingerprint": "f", "model": params.selected_model.model_dump(mode="json"), "chunks": 4}
    run = Run(
        TrainJob(
            params,
            "f",
            folder,
            checkout / "data/index",
            checkout / "data/excluded.npy",
            checkout / "images",
            sfcn,
            card,
        )
    )
    assert run.live() == [0, 0], run.log()
    return run


def again(quiet: Run, folder: Path) -> Run:
    return Run(replace(quiet.job, run_folder=folder))


def test_a_run_begins_with_given_weights_and_not_with_others(quiet: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    given = tmp_path / "start.safetensors"
    given.write_bytes(quiet.weights())
    seal.put(given)
    # Steps so small that they are within rounding of where they begin.
    short = {"learning_rate": 1e-12, "samples": quiet.job.params.selected_recipe.batch}
    train = quiet.job.params.train.model_copy(update=short)
    params = quiet.job.params.model_copy(update={"train": train})
    run = Run(replace(quiet.job, run_folder=folder, params=params, start=given))
    assert run.live() == [0, 0], run.log()
    expected, found = load_file(given), load_file(folder / "final.safetensors")
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        if "running_" not in name and "num_batches" not in name:  # of the stem's batch norm
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-8)
    given.write_bytes(quiet.weights()[:-1])
    shutil.rmtree(folder)
    assert run.live() == [1, 1] and "move it away, and `dvc repro` makes it again from init" in run.log()


@pytest.mark.verify  # test_train.py kills the stage itself again and again
def test_killed_at_five_random_steps_it_ends_with_the_weights_of_a_quiet_run(quiet: Run, tmp_path: Path) -> None:
    run, rng = again(quiet, tmp_path / "run"), random.Random(7)
    for step in sorted(rng.sample(range(1, stages.STEPS), 5)):
        rank = rng.randrange(SIZE)
        codes = run.live(Fault(step, rank))
        assert codes[rank] == -signal.SIGKILL and codes[1 - rank] != 0, run.log()
        assert not (run.job.run_folder / "final.safetensors").exists()
    assert run.live() == [0, 0], run.log()
    assert run.weights() == quiet.weights()
    assert run.rows() == quiet.rows()  # each step once
    logged = collections.Counter(row["step"] for row in run.rows() if "loss" in row)
    assert logged == {step: 1 for step in range(10, stages.STEPS + 1, 10)}
    assert len(re.findall(r"resuming at step", run.log())) >= 3


def test_one_rank_goes_on_where_two_were_and_says_what_changes(quiet: Run, tmp_path: Path) -> None:
    run = again(quiet, tmp_path / "run")
    run.live(Fault(step=15))
    assert run.live(size=1) == [0], run.log()
    assert "resuming at step 10 of 40" in run.log()
    assert "1 ranks continue what 2 began: the batches stay the same and in the same order, but negatives" in run.log()
    assert [row["step"] for row in run.rows()] == [row["step"] for row in quiet.rows()]
    assert run.rows()[:1] == quiet.rows()[:1] and run.weights() != quiet.weights()


def test_steps_without_a_finite_loss_are_skipped_and_counted(quiet: Run, tmp_path: Path) -> None:
    from caft.data.training.batch import BatchOrder
    from caft.data.training.reader import TrainingIndex
    from caft.data.training.subsets import split_validation

    run, job = again(quiet, tmp_path / "run"), quiet.job
    index = TrainingIndex(job.index_folder, job.images_root)
    training, _ = split_validation(index.row_ids, job.params.selected_recipe.validation_images)
    order = [
        [
            row
            for rank in range(SIZE)
            for _, row in list(BatchOrder(training, 8, rank, SIZE, job.params.seed, 0, 40))[step]
        ]
        for step in range(40)
    ]
    bad = order[3][-1]  # on the second rank
    expected = [step for step, rows in enumerate(order) if bad in rows]
    assert run.live(Fault(images=frozenset([bad]))) == [0, 0], run.log()
    skipped = re.findall(r"step (\d+) is skipped, (\d+) so far: the loss is nan on (.*)", run.log(0) + run.log(1))
    assert sorted(int(step) for step, _, _ in skipped) == expected
    assert all(f"row {index.row_ids[bad]} of scenes" in images for _, _, images in skipped)
    assert run.rows()[-2]["skipped_steps"] == len(expected)
    assert all(bool(tensor.isfinite().all()) for tensor in load_file(job.run_folder / "final.safetensors").values())


def test_a_picture_that_cannot_be_read_is_replaced_and_counted_or_stops_the_run(quiet: Run, tmp_path: Path) -> None:
    from caft.data.training.batch import BatchOrder
    from caft.data.training.reader import TrainingIndex
    from caft.data.training.subsets import split_validation

    job = quiet.job
    index = TrainingIndex(job.index_folder, job.images_root)
    training, _ = split_validation(index.row_ids, job.params.selected_recipe.validation_images)
    bad = int(training[0])
    expected = sum(
        row == bad
        for rank in range(SIZE)
        for step in BatchOrder(training, 8, rank, SIZE, job.params.seed, 0, stages.STEPS)
        for _, row in step
    )
    shutil.copytree(job.images_root, tmp_path / "images")
    image = np.load(job.index_folder / "images.npy")[bad]
    corpus, shard = json.loads((job.index_folder / "index.json").read_text())["shards"][image["shard"]]
    with (tmp_path / "images" / corpus / f"{shard}.tar").open("r+b") as file:
        file.seek(image["offset"])
        file.write(b"no picture")
    damaged = replace(job, images_root=tmp_path / "images")
    stopped = Run(replace(damaged, run_folder=tmp_path / "stopped"))
    assert 0 not in stopped.live() and f"row {index.row_ids[bad]}" in stopped.log() + stopped.log(1)
    data = job.params.data.model_copy(update={"damaged": "replace", "shards_at_once": 1})
    going_on = replace(damaged, run_folder=tmp_path / "run", params=job.params.model_copy(update={"data": data}))
    run = Run(going_on)
    assert run.live() == [0, 0], run.log()
    assert expected and run.rows()[-2]["replaced_images"] == expected
    assert "stands in" in run.log() + run.log(1)


def test_a_loss_that_stays_no_number_ends_the_run_and_names_the_images(quiet: Run, tmp_path: Path) -> None:
    run = again(quiet, tmp_path / "run")
    assert all(code != 0 for code in run.live(Fault(always=True)))
    [message] = re.findall(r"CaftError: (.*)", run.log())
    assert message.startswith(
        "step 19: the loss is not finite, in 20 steps one after another; this one's images are row "
    )
    assert len(re.findall(r"row \d+ of scenes", message)) == 8
