"""A user edits the table and the pictures of a corpus of their own: a plain `dvc repro` does what that asks for, no more."""

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

from caft.network.vision.superpixels import SFCN
from tests.faults.checkout import dvc, make_checkout, stages_run, would_run
from tests.faults.stages import remove

pytestmark = pytest.mark.slow
COUNT = 8
FETCH = {"processes": 1, "threads": 2, "timeout": 3, "retries": 0, "images_per_shard": 4, "image_size": 64}
MINE = {"kind": "custom", "table": "photos/captions.csv", "expected_images": COUNT, "fetch": FETCH}
TARGETS = ("source@mine", "fetch@mine")


def repro(folder: Path, *targets: str) -> list[str]:
    """Runs the graph up to some stages; names of those that ran, but for `look`."""
    done = dvc(folder, "repro", *(targets or TARGETS))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return stages_run(done.stdout)


def write_picture(path: Path, colour: int) -> None:
    pixels = np.full((80, 100, 3), colour, np.uint8)
    pixels[20:40, 30:60] = 255 - colour
    Image.fromarray(pixels).save(path)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / MINE["table"]).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(folder: Path, table: list[dict[str, str]]) -> None:
    with (folder / MINE["table"]).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["path", "long_caption"])
        writer.writeheader()
        writer.writerows(table)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which the corpus has been read once; one of its pictures is not there. Tests work on copies of it."""
    settings: dict[str, Any] = {"corpora": ["mine"], "corpus": {"mine": MINE}}
    folder = make_checkout(tmp_path_factory.mktemp("edits") / "caft", settings)
    for graph in folder.glob("pipelines/*/dvc.yaml"):
        graph.unlink()  # quicker
    (folder / "photos").mkdir()
    table = []
    for number in range(COUNT):
        name = f"été {number}.png" if number % 2 else f"{number}.png"
        if number < COUNT - 1:
            write_picture(folder / "photos" / name, 30 * number)
        table.append({"path": name, "long_caption": f"A plain field {number}. A box of the other colour lies in it."})
    write_rows(folder, table)
    assert repro(folder) == list(TARGETS)
    return folder


@pytest.fixture
def mine(begun: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "caft", symlinks=True))


def captions(folder: Path) -> dict[str, str]:
    """What training will be told, by address."""
    return {row["url"]: row["short_ib"] or row["long_ib"] for row in _table(folder)}


def _table(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / "data/urls/mine.parquet").to_pylist()
    return found


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "data/images/mine.json").read_text())
    return found


def test_nothing_runs_where_nothing_has_changed_nor_where_files_were_touched(mine: Path) -> None:
    assert would_run(mine, *TARGETS) == set()
    before = (mine / "dvc.lock").read_text()
    (mine / MINE["table"]).touch()
    assert repro(mine) == []
    assert (mine / "dvc.lock").read_text() == before


def test_a_corrected_caption_is_read(mine: Path) -> None:
    table = rows(mine)
    table[2]["long_caption"] = "A plain meadow. A box lies in it."
    write_rows(mine, table)
    before = manifest(mine)
    assert repro(mine)[0] == "source@mine"
    [row] = [row for row in _table(mine) if row["url"] == "file:2.png"]
    assert table[2]["long_caption"] in row.values()
    assert manifest(mine) == before  # the pictures are the same
    assert repro(mine) == []


def test_a_table_that_is_not_there_after_a_pull_is_not_asked_for(mine: Path) -> None:
    """As on a machine that has the outs alone: neither table, pictures nor storage."""
    for name in ("photos", "images", "scratch"):
        remove(mine, Path(name))
    before = manifest(mine)
    assert repro(mine) == [] and would_run(mine, *TARGETS) == set()
    assert manifest(mine) == before


def test_an_experiment_of_an_edited_corpus_runs_nothing_again(mine: Path) -> None:
    table = rows(mine)
    table[2]["long_caption"] = "A plain meadow. A box lies in it."
    write_rows(mine, table)
    assert repro(mine)[0] == "source@mine"
    done = dvc(mine, "exp", "run", "--temp", "-S", "seed=1", *TARGETS)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert "Running stage 'look'" in done.stdout and stages_run(done.stdout) == []


def test_another_checkpoint_of_the_superpixels_is_imported(begun: Path, tmp_path: Path) -> None:
    folder = make_checkout(tmp_path / "caft", {"superpixels": {"checkpoint": "bsd.tar"}})
    (folder / "data/index").mkdir(parents=True)  # which an import does not read
    (folder / "data/index/index.json").write_text("{}")
    widths = yaml.safe_load((folder / "params.yaml").read_text())["models"]["tiny"]["superpixels"]["widths"]
    weights = []
    for seed in range(2):
        torch.manual_seed(seed)
        torch.save({"state_dict": SFCN(widths).state_dict()}, folder / "bsd.tar")
        for expected in (["superpixels"], []):
            assert repro(folder, "--single-item", "look", "superpixels") == expected
        weights.append(hashlib.sha256((folder / "models/sfcn.safetensors").read_bytes()).hexdigest())
    assert weights[0] != weights[1]
