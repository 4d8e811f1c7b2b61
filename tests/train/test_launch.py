"""Whether a run has ended, by what is left in its folder, and what its tracked run is when nobody waits any longer."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from caft.errors import CheckpointError, LaunchError, UnderWayError
from caft.model.card import ModelCard
from caft.params import Params, load_params
from caft.storage import tracking_uri
from caft.train import checkpoint, launch, seal
from caft.train.job import RESULTS, TrainJob
from caft.train.tracking.runs import open_run
from caft.weights.files import save_model

CARD = ModelCard(splitter="dreamlip", chunks=4, balanced_rule="paper", fingerprint="run", seed=0)
LINES = '{"step": 10, "loss": 2.5}\n{"step": 20, "loss": 2.25}\n'


def job_of(folder: Path, params: Params) -> TrainJob:
    return TrainJob(params, "run", folder, folder, folder, folder, None, CARD)


def settings(*values: str) -> Params:
    return load_params("params.yaml", values=list(values))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a run that has ended, and whose checkpoints are gone."""
    folder = tmp_path / "run"
    folder.mkdir()
    save_model(torch.nn.Linear(2, 2), folder / "final.safetensors", CARD)
    (folder / "metrics.jsonl").write_text(LINES)
    seal.put(*(folder / name for name in RESULTS))
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_run_whose_results_are_whole_has_ended(folder: Path) -> None:
    before = content(folder)
    assert launch._has_ended(job_of(folder, settings()), None)
    assert content(folder) == before


@pytest.mark.parametrize("lost", ["metrics.jsonl", "metrics.jsonl.seal"])
def test_whole_weights_are_not_trained_again_for_want_of_a_curve(folder: Path, lost: str) -> None:
    (folder / lost).unlink()
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/step-000000020.pt").write_bytes(b"cut off")
    before = content(folder)
    with pytest.raises(
        CheckpointError, match=r"metrics\.jsonl (is not there|has no whole .*); the weights of run run are"
    ):
        launch._has_ended(job_of(folder, settings()), None)
    assert content(folder) == before


def test_from_a_whole_checkpoint_the_curve_is_made_again_and_the_weights_stay(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "metrics.jsonl").write_text(LINES[:-10])
    checkpoint.save(folder / "checkpoints", 20, {"fingerprint": "run", "step": 20})
    before = content(folder)
    assert not launch._has_ended(job_of(folder, settings()), None)
    assert "the run's end is made again, from step-000000020.pt" in caplog.text
    assert before.pop("metrics.jsonl") and content(folder) == before


def test_spoilt_weights_without_a_checkpoint_are_trained_from_the_start(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "final.safetensors").write_bytes(b"spoilt")
    before = content(folder)
    assert not launch._has_ended(job_of(folder, settings()), None)
    assert "has 6 bytes" in caplog.text and "from the start, since no whole checkpoint is left" in caplog.text
    assert content(folder) == before


@pytest.mark.parametrize(
    "spoil", [lambda card: card.write_text("{"), lambda card: card.with_name("final.json.seal").unlink()]
)
def test_a_card_that_is_not_whole_is_written_again(folder: Path, spoil: Callable[[Path], object]) -> None:
    before = content(folder)
    spoil(folder / "final.json")
    assert launch._has_ended(job_of(folder, settings()), None)
    after = content(folder)
    assert json.loads(after.pop("final.json")) == json.loads(before.pop("final.json"))
    assert seal.fault(folder / "final.json") is None
    assert all(after[name] == before[name] for name in ("final.safetensors", "metrics.jsonl", "metrics.jsonl.seal"))


def test_seals_that_a_clusters_job_is_about_to_write_are_not_judged(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "metrics.jsonl.seal").unlink()
    (folder / "job.json").write_text('{"executor": "slurm", "id": "71"}')
    before, asked = content(folder), []

    def over(job: str) -> bool:
        asked.append(job)
        return False

    with caplog.at_level(logging.INFO):
        assert not launch._has_ended(job_of(folder, settings("launch=a100x8")), over)
    assert asked == ["71"] and not caplog.records and content(folder) == before
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl has no whole metrics\.jsonl\.seal"):
        launch._has_ended(job_of(folder, settings("launch=a100x8")), lambda job: True)


@pytest.mark.parametrize(("error", "status"), [(UnderWayError, "RUNNING"), (LaunchError, "FAILED")])
def test_a_tracked_run_goes_on_with_its_job(tmp_path: Path, error: type[LaunchError], status: str) -> None:
    params = settings(f"storage.root={tmp_path}", "launch=a100x8")
    tracked = open_run(params, "run", "run", {}, {})

    def given_up(job: TrainJob, follow: Callable[[], None]) -> None:
        (job.run_folder / "metrics.jsonl").write_text(LINES)
        raise error("job 71 is over, or not")

    (tmp_path / "run").mkdir()
    with pytest.raises(error):
        launch._run(job_of(tmp_path / "run", params), given_up, lambda folder: None, tracked, None)
    client = MlflowClient(tracking_uri(params))
    assert client.get_run(tracked.run_id).info.status == status
    assert [point.step for point in client.get_metric_history(tracked.run_id, "curves/train/loss")] == [10, 20]
