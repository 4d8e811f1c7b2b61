"""A user edits the table and the pictures of a corpus of their own: a plain `dvc repro` does what that asks for, no more."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from webdataset import TarWriter

from caft.data.crawl.manifest import Manifest, verify
from caft.data.crawl.own import name_of
from caft.digests import file_digest
from caft.network.vision.superpixels import SFCN
from tests.data.web import picture
from tests.faults.checkout import ENVIRONMENT, dvc, make_checkout, stages_run, would_run
from tests.faults.stages import remove

pytestmark = pytest.mark.slow
COUNT = 8
FETCH = {"processes": 1, "threads": 2, "images_per_shard": 4, "image_size": 64, "minimum_yield": 0.5}
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


def was_read(folder: Path) -> dict[str, tuple[str | None, str | None]]:
    """SHA-256 and cause of loss of each row, by its path."""
    table = pq.read_table(folder / "data/images/mine.parquet").to_pylist()
    return {name_of(row["url"]): (row["download_sha256"], row["cause"]) for row in table}


def expected(folder: Path) -> dict[str, tuple[str | None, str | None]]:
    """The same, of a run that reads everything for the first time."""
    files = {row["path"]: folder / "photos" / row["path"] for row in rows(folder)}
    return {name: (file_digest(path), None) if path.exists() else (None, "no_file") for name, path in files.items()}


def blot(folder: Path, *but: str) -> None:
    """Makes nonsense of all pictures but some, of the same size and time, so that it would show if one was read again."""
    for path in (folder / "photos").glob("*.png"):
        if path.name not in but:
            state = path.stat()
            path.write_bytes(bytes(state.st_size))
            os.utime(path, ns=(state.st_mtime_ns, state.st_mtime_ns))


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


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "data/images/mine.json").read_text())
    return found


def test_nothing_runs_where_nothing_has_changed_nor_where_files_were_touched(mine: Path) -> None:
    assert would_run(mine, *TARGETS) == set()
    before = (mine / "dvc.lock").read_text()
    (mine / MINE["table"]).touch()
    assert repro(mine) == []
    assert (mine / "dvc.lock").read_text() == before


def test_a_corrected_caption_is_read_and_by_an_experiment_not_again(mine: Path) -> None:
    table = rows(mine)
    table[2]["long_caption"] = "A plain meadow. A box lies in it."
    write_rows(mine, table)
    before = manifest(mine)
    blot(mine)
    assert repro(mine)[0] == "source@mine"
    [row] = [row for row in pq.read_table(mine / "data/urls/mine.parquet").to_pylist() if row["url"] == "file:2.png"]
    assert table[2]["long_caption"] in row.values()
    assert manifest(mine) == before  # the pictures are the same
    done = dvc(mine, "exp", "run", "--temp", "-S", "seed=1", *TARGETS)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert "Running stage 'look'" in done.stdout and stages_run(done.stdout) == []


def _replace_a_picture(folder: Path) -> list[str]:
    write_picture(folder / "photos/2.png", 7)
    return ["2.png"]


def _put_a_file_where_it_belongs(folder: Path) -> list[str]:
    name = rows(folder)[-1]["path"]
    write_picture(folder / "photos" / name, 8)
    return [name]


def _add_remove_and_rename(folder: Path) -> list[str]:
    _, *table = rows(folder)
    table[1]["path"] = "two.png"
    write_rows(folder, [*table, {"path": "new.png", "long_caption": "A new field. A box lies in it."}])
    (folder / "photos/2.png").unlink()
    for colour, name in enumerate(("two.png", "new.png")):
        write_picture(folder / "photos" / name, 9 + colour)
    return ["two.png", "new.png"]


def test_edits_give_what_a_fresh_run_gives_and_read_what_changed(mine: Path) -> None:
    known = expected(mine)
    for edit in (_replace_a_picture, _put_a_file_where_it_belongs, _add_remove_and_rename):
        changed = edit(mine)
        found = {row["path"]: known.get(row["path"]) for row in rows(mine)}
        found |= {name: expected(mine)[name] for name in changed}
        assert found != was_read(mine), edit
        blot(mine, *changed)
        assert repro(mine) == ([*TARGETS] if edit is _add_remove_and_rename else ["fetch@mine"])
        assert was_read(mine) == found, edit
        assert manifest(mine)["successes"] == sum(digest is not None for digest, _ in found.values()), edit
        known = found
    assert repro(mine) == []


def by_hand(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "pipelines.fetch", "mine", *arguments]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-6000:]


@pytest.mark.verify  # what is announced after work by hand has quicker tests
def test_what_is_done_by_hand_is_not_undone_from_dvcs_cache(mine: Path) -> None:
    table = rows(mine)
    write_picture(mine / "photos" / table[-1]["path"], 8)
    by_hand(mine)  # which reads it, so that nobody sees a change any more
    assert repro(mine) == ["fetch@mine"] and manifest(mine)["successes"] == COUNT
    write_rows(mine, table[1:])
    assert repro(mine) == [*TARGETS]
    by_hand(mine, "--erase")
    assert repro(mine) == ["fetch@mine"] and repro(mine) == []
    assert verify(Manifest.from_json(manifest(mine), ""), mine / "images/mine") == {}
    write_rows(mine, table)  # of this table, DVC knows what came before pictures were erased
    assert repro(mine) == ["fetch@mine"]
    assert was_read(mine) == expected(mine)
    assert verify(Manifest.from_json(manifest(mine), ""), mine / "images/mine") == {}


@pytest.mark.verify  # what look writes of tars, and that fetch reads a new one, have quicker tests
def test_a_tar_that_is_added_is_read(mine: Path) -> None:
    content = yaml.safe_load((mine / "params.yaml").read_text())
    content["corpus"]["mine"] |= {"table": "list.csv", "packed": "tars"}
    (mine / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    (mine / "tars").mkdir()
    address = "https://localhost/{}.jpg".format
    lines = [f"{address(number)},A plain field {number}. A box lies in it." for number in range(4)]
    (mine / "list.csv").write_text("\n".join(["url,long_caption", *lines]))
    remove(mine, Path("images/mine"))
    for tar, expected in enumerate(([*TARGETS], ["fetch@mine"])):
        with TarWriter(str(mine / f"tars/{tar}.tar")) as packing:
            for number in (2 * tar, 2 * tar + 1):
                packing.write({"__key__": f"{number:09d}", "png": picture(number), "json": {"url": address(number)}})
        assert repro(mine) == expected
        assert manifest(mine)["successes"] == 2 * (tar + 1)


def test_a_table_that_is_not_there_after_a_pull_is_not_asked_for(mine: Path) -> None:
    """As on a machine that has the outs alone: neither table, pictures nor storage."""
    for name in ("photos", "images", "scratch"):
        remove(mine, Path(name))
    before = manifest(mine)
    assert repro(mine) == [] and would_run(mine, *TARGETS) == set()
    assert manifest(mine) == before


def test_another_checkpoint_of_the_superpixels_is_imported(begun: Path, tmp_path: Path) -> None:
    folder = make_checkout(tmp_path / "caft", {"superpixels": {"checkpoint": "bsd.tar"}})
    (folder / "data/index").mkdir(parents=True)  # which an import does not read
    (folder / "data/index/index.json").write_text("{}")
    widths = yaml.safe_load((folder / "params.yaml").read_text())["models"]["tiny"]["superpixels"]["widths"]
    weights = []
    for seed in range(2):
        torch.manual_seed(seed)
        torch.save({"state_dict": SFCN(widths).state_dict()}, folder / "bsd.tar")
        assert repro(folder, "--single-item", "look", "superpixels") == ["superpixels"]
        weights.append(file_digest(folder / "models/sfcn.safetensors"))
    assert weights[0] != weights[1]
