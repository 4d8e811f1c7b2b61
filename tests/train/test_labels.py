"""Superpixel maps of a corpus: kept up to a bound, computed for each batch beyond it, and the same either way."""

from pathlib import Path

import numpy as np
import pytest
import torch

from caft import CAFT
from caft.data.training.batch import Batch
from caft.data.training.index import build_index
from caft.data.training.reader import TrainingIndex
from caft.errors import DataError
from caft.params import load_params
from caft.train import labels
from caft.train.distributed import World
from caft.transforms import squash
from tests.data.test_index import _corpus

IMAGES = 70  # more than are read at once
HERE = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> TrainingIndex:
    root = tmp_path_factory.mktemp("corpus")
    _corpus(root, "one", [[[f"It is {n}."] * 7 for n in range(IMAGES)]])
    build_index(root / "index", [{"name": "one", "fingerprint": "a"}], "spacy", root / "captions", root / "sentences")
    return TrainingIndex(root / "index", root / "images")


@pytest.fixture(scope="module")
def model() -> CAFT:
    torch.manual_seed(0)
    return CAFT(load_params("params.yaml").models["tiny"])


def batch(index: TrainingIndex, rows: list[int]) -> Batch:
    images = torch.stack([squash(index.picture(row), 64) for row in rows])
    return Batch(images, torch.zeros(len(rows), 8, 77, dtype=torch.long), torch.tensor(rows))


def made(model: CAFT, index: TrainingIndex, folder: Path, *values: str) -> labels.Labels:
    return labels.batch_labels(model, index, HERE, folder, load_params("params.yaml", (), values))


def test_maps_are_kept_up_to_the_bound_and_are_the_same_beyond_it(
    model: CAFT, index: TrainingIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = batch(index, [3, 69, 0, 41])
    size = IMAGES * 64 * 64  # a byte for each pixel, since `tiny` has 64 superpixels
    kept, computed = tmp_path / "kept", tmp_path / "computed"
    monkeypatch.setattr(labels, "KEPT_BYTES", size)
    first = made(model, index, kept)(given)
    monkeypatch.setattr(labels, "KEPT_BYTES", size - 1)
    second = made(model, index, computed)(given)
    assert first.dtype == second.dtype == torch.int64 and first.shape == (4, 64, 64)
    assert torch.equal(first, second)
    alone = [model.superpixel_labels(image[None])[0] for image in given.images]
    assert torch.equal(first, torch.stack(alone)) and len(first.unique()) > 1
    [file] = (path for path in kept.iterdir() if path.suffix != ".seal")
    assert np.load(file).shape == (IMAGES, 64, 64) and file.stat().st_size == size + 128  # numpy's header
    assert not computed.exists()


def test_crops_have_no_kept_maps(model: CAFT, index: TrainingIndex, tmp_path: Path) -> None:
    given = batch(index, [5, 6])
    assert torch.equal(
        made(model, index, tmp_path, "recipes.smoke.crop_scale=[0.5, 1.0]")(given),
        model.superpixel_labels(given.images),
    )
    assert not list(tmp_path.iterdir())


def test_the_bound_keeps_the_maps_of_the_default_corpus_and_not_of_the_papers() -> None:
    """The published corpora of 2.8 to 15 million images, at 224 pixels, would take 140 GB and more."""
    assert 10**6 * 64**2 < labels.KEPT_BYTES < 2_823_019 * 224**2


def test_a_damaged_image_stops_or_gets_a_blank_map_that_nobody_reads(
    model: CAFT, index: TrainingIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = index.picture

    def damaged(row: int) -> object:
        if row == 9:
            raise DataError("row 9 cannot be decoded")
        return picture(row)

    monkeypatch.setattr(index, "picture", damaged)
    with pytest.raises(DataError, match="row 9 cannot be decoded"):
        made(model, index, tmp_path / "stop")
    assert not list((tmp_path / "stop").iterdir())
    monkeypatch.undo()
    given = batch(index, [8, 10])
    expected = model.superpixel_labels(given.images)
    monkeypatch.setattr(index, "picture", damaged)
    found = made(model, index, tmp_path / "skip", "data.damaged=replace")
    assert torch.equal(found(given), expected)
