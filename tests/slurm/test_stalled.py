"""Images that do not come, as from a file system that hangs, end the run; a pipe that nobody writes into is the shard."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from torch.utils.data import DataLoader, Dataset

from caft.errors import DataError
from caft.params import load_params
from caft.train import job, seal, stalled
from caft.train.stalled import each_in_time
from tests.faults.conftest import Finished


class Pictures(Dataset[bytes]):
    """Reads its second item from a pipe."""

    def __init__(self, pipe: Path) -> None:
        self.pipe = pipe

    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: int) -> bytes:
        return self.pipe.read_bytes() if i else b"picture"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_that_hangs_ends_in_one_error(workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stalled, "STALLED_SECONDS", 10 if workers else 0.5)
    os.mkfifo(tmp_path / "shard")
    loader = DataLoader(Pictures(tmp_path / "shard"), batch_size=1, num_workers=workers)
    batches = each_in_time(loader, Path("images/cc3m"))
    assert next(batches) == [b"picture"]
    begun = time.monotonic()
    limit = r"images/cc3m: no images came for (10|0\.5) seconds. Look whether its file system answers"
    with pytest.raises(DataError, match=limit):
        next(batches)
    assert time.monotonic() - begun < 30
    assert list(each_in_time([1, 2], tmp_path)) == [1, 2]


class Numbers(Dataset[int]):
    def __len__(self) -> int:
        return 40

    def __getitem__(self, i: int) -> int:
        return i


@pytest.mark.slow
def test_a_loader_that_was_stopped_is_named_and_one_that_goes_on_in_time_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stalled, "STALLED_SECONDS", 10)
    loader = DataLoader(Numbers(), batch_size=1, num_workers=1, collate_fn=list)
    before = set(psutil.Process().children())

    def begin() -> tuple[Iterator[list[int]], psutil.Process]:
        batches = each_in_time(loader, tmp_path)
        assert next(batches) == [0]
        [reader] = [child for child in psutil.Process().children() if child not in before]
        reader.suspend()
        return batches, reader

    batches, reader = begin()
    threading.Timer(2, reader.resume).start()
    assert list(batches) == [[number] for number in range(1, 40)]
    reader.wait(10)

    monkeypatch.setattr(stalled, "STALLED_SECONDS", 3)
    batches, reader = begin()
    words = (
        f"no images came for 3 seconds. A process that reads them was stopped: `kill -CONT {reader.pid}` lets it go on"
    )
    try:
        with pytest.raises(DataError, match=words):
            list(batches)
    finally:
        reader.resume()  # killed, torch would raise that in whatever this process does next
        del batches


@pytest.mark.slow
@pytest.mark.parametrize("labels_are_there", [False, True])
def test_a_training_whose_shard_hangs_ends_in_that_error(
    labels_are_there: bool, finished: Finished, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images are first read for the superpixels, and then, where these are known, for the batches."""
    checkout = finished.before("train", disk)
    monkeypatch.setenv("CAFT_STORAGE", str(checkout))
    monkeypatch.setattr(stalled, "STALLED_SECONDS", 3.0)
    params = load_params(checkout / "params.yaml")
    folder = checkout / "runs/stalled"
    folder.mkdir(parents=True)
    index = checkout / "data/index"
    if labels_are_there:
        count = len(job.TrainingIndex(index, checkout / "images"))
        size = params.selected_model.image_size
        np.save(folder / "superpixels-0-of-1.npy", np.zeros((count, size, size), np.uint8))
        seal.put(folder / "superpixels-0-of-1.npy")
    for tar in (checkout / "images/scenes").glob("*.tar"):
        tar.unlink()
        os.mkfifo(tar)
    excluded, sfcn = checkout / "data/excluded.npy", checkout / "models/sfcn.safetensors"
    made = job.TrainJob(params, "stalled", folder, index, excluded, checkout / "images", sfcn, {})
    with pytest.raises(DataError, match=f"{checkout}/images: no images came for 3 seconds"):
        made()
    assert not (folder / "final.safetensors").exists()
