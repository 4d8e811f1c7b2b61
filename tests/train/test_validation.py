"""Validation inside training: shared by the ranks, with the scores of one."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import gpu_data
from caft import CAFT
from caft.data.training.reader import TrainingIndex
from caft.eval.scores.retrieval import recall_at_k
from caft.params import load_params
from caft.train import validation
from caft.train.distributed import World
from tests.ranks import run_ranks

PROJECT = Path(__file__).parents[2]
IMAGES = 21


class Counted(TrainingIndex):
    """Counts the pictures that are read."""

    read = 0

    def picture(self, i: int):  # type: ignore[no-untyped-def]
        self.read += 1
        return super().picture(i)


def work(rank: int, size: int, folder: Path) -> None:
    params = load_params(PROJECT / "params.yaml")
    params = params.model_copy(update={"evaluation": params.evaluation.model_copy(update={"batch": 4})})
    torch.manual_seed(0)
    model = CAFT(params.selected_model, params.selected_recipe.chunks).eval()
    if rank:  # batch norm's statistics follow each rank's own batches until the next forward pass of DDP
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.add_(1.0)
    index = Counted(folder, folder / "images")
    world = World(rank, size, torch.device("cpu"))
    compared: list[np.ndarray] = []

    def noted(scores: np.ndarray, ks: tuple[int, ...]) -> dict[str, float]:
        compared.append(scores)
        return recall_at_k(scores, ks=ks)

    validation.recall_at_k = noted  # type: ignore[assignment]  # in this process of the test alone
    found = validation.validate(model, index, np.arange(IMAGES), params, world)
    if world.is_main:
        np.save(folder / f"of-{size}.npy", np.stack(compared))
    (folder / f"{rank}-of-{size}.json").write_text(json.dumps([found, index.read]))


@pytest.mark.slow
def test_ranks_share_the_images_and_find_the_scores_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_data, "_PICTURES", IMAGES)
    gpu_data._write(tmp_path)
    run_ranks(work, tmp_path, 1, 2)
    (alone, read), (first, mine), (second, others) = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("0-of-1", "0-of-2", "1-of-2")
    )
    assert set(alone) == {"i2t_r1", "t2i_r1", "part_t2i_r1"} and first == alone and second == {}
    assert read == IMAGES and max(mine, others) == math.ceil(IMAGES / 2) and mine + others == IMAGES
    whole, shared = (np.load(tmp_path / f"of-{size}.npy") for size in (1, 2))
    assert whole.shape == (2, IMAGES, IMAGES)
    np.testing.assert_allclose(shared, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_where_nothing_is_held_out_there_are_no_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_data, "_PICTURES", 3)
    gpu_data._write(tmp_path)
    params = load_params(PROJECT / "params.yaml")
    model = CAFT(params.selected_model, params.selected_recipe.chunks).eval()
    index, none = TrainingIndex(tmp_path, tmp_path / "images"), np.arange(0)
    assert validation.validate(model, index, none, params, World(0, 1, torch.device("cpu"))) == {}
