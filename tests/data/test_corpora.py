"""Corpora in published form and a user's own, by `dvc repro` in a checkout: what runs, and what does not run again."""

import argparse
import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from webdataset import TarWriter

from caft.data.crawl.fetch import fetch, pictures_home
from caft.data.tables.recaption import join_captions
from caft.data.tables.source import convert_table
from caft.data.training.index import read_summary
from caft.data.training.reader import TrainingIndex
from caft.errors import DataError
from caft.params import Params, load_params
from caft.params.corpora import FetchOverrides
from pipelines import source as source_stage
from tests.data.published_corpora import write_table
from tests.data.web import Web, picture
from tests.faults.checkout import dvc, make_checkout, stages_run
from tests.faults.stages import PROJECT

pytestmark = pytest.mark.timeout(1500)
ROWS = 40
CORPORA = ("cc3m", "cc12m", "yfcc15m")
CHAIN = ("source", "fetch", "captions", "sentences")
# The entry of a user's own corpus: three lines of settings.
CUSTOM = {"kind": "custom", "table": "photos/captions.csv", "expected_images": 200}


def write_photos(folder: Path, count: int) -> list[tuple[int, int, int]]:
    """Pictures of one colour each in files with awkward names, and a table of them; returns the colours."""
    (folder / "more photos").mkdir(parents=True)
    colours = []
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "long_caption", "short_caption"])
        for number in range(count):
            colour = (number % 8 * 32, number // 8 % 8 * 32, number // 64 * 60)
            name = f"more photos/été #{number}%.png" if number % 2 else f"{number}.jpg"
            pixels = np.full((80, 100, 3), colour, np.uint8)
            pixels[20:40, 30:60] = 255 - np.array(colour)
            Image.fromarray(pixels).save(folder / name, quality=95)
            colours.append(colour)
            long = f"A plain field {number}. It has a tone of {colour[0]}. A box of the other colour lies in it."
            writer.writerow([name, long, f"field {number}" if number % 3 else ""])
    return colours


@pytest.fixture(scope="module")
def checkout(web_server: Web, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with three corpora in published form, one to crawl and two packed, and 200 pictures of a user's."""
    web_server.reset()
    settings: dict[str, Any] = {
        "corpora": ["cc3m"],
        "fetch": {"timeout": 3, "retries": 0, "images_per_shard": 1000, "image_size": 64, "second_pass": False},
        "corpus": {name: {"packed": f"data/raw/{name}-wds"} for name in CORPORA[1:]} | {"mine": dict(CUSTOM)},
        "train": {"batch": 16, "samples": 16 * 6, "warmup_steps": 1, "validate_every": 6, "checkpoint_every": 6},
        "superpixels": {"steps": 4},
    }
    content = yaml.safe_load((PROJECT / "params.yaml").read_text())
    folder = make_checkout(tmp_path_factory.mktemp("corpora") / "caft", settings)
    (folder / "data/raw").mkdir(parents=True)
    for place, name in enumerate(CORPORA):
        path = folder / content["corpus"][name]["csv"]
        address = f"{web_server.address}/good/{{}}".format if name == "cc3m" else f"https://{name}/{{}}.jpg".format
        write_table(path, ROWS, seed=place, address=address)
        if name != "cc3m":
            (folder / f"data/raw/{name}-wds").mkdir()
            with TarWriter(str(folder / f"data/raw/{name}-wds/{name}-train-0000.tar")) as tar:
                for number in range(ROWS):
                    tar.write({"__key__": f"{number:09d}", "png": picture(number), "json": {"url": address(number)}})
    write_photos(folder / "photos", CUSTOM["expected_images"])
    return folder


def select(folder: Path, *corpora: str) -> None:
    content = yaml.safe_load((folder / "params.yaml").read_text())
    content["corpora"] = list(corpora)
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def repro(folder: Path, target: str) -> list[str]:
    """Runs the graph up to a stage; names of the stages that ran, but for `look`."""
    done = dvc(folder, "repro", target)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return stages_run(done.stdout)


@pytest.mark.slow
@pytest.mark.verify  # two minutes
def test_a_list_of_corpora_runs_what_is_missing_and_going_back_runs_select_alone(checkout: Path) -> None:
    assert repro(checkout, "index") == [*(f"{stage}@cc3m" for stage in CHAIN), "select", "index"]
    alone = {path.name: path.read_bytes() for path in (checkout / "data/index").iterdir()}
    lock = (checkout / "dvc.lock").read_text()

    select(checkout, *CORPORA)
    ran = repro(checkout, "index")
    assert set(ran) == {f"{stage}@{name}" for stage in CHAIN for name in CORPORA[1:]} | {"select", "index"}
    assert len(ran) == 2 * len(CHAIN) + 2
    summary = read_summary(checkout / "data/index")
    assert [entry["name"] for entry in summary["corpora"]] == list(CORPORA)
    counts = json.loads((checkout / "metrics/data.json").read_text())
    assert list(counts) == list(CORPORA) and all(count["rows_in"] == ROWS for count in counts.values())
    assert summary["images"] == sum(count["rows_out"] for count in counts.values())
    drawn = dvc(checkout, "dag", "--dot").stdout
    assert all(f'"{stage}@{name}"' in drawn for stage in CHAIN for name in CORPORA)

    select(checkout, "cc3m")
    assert repro(checkout, "index") == ["select"]
    assert {path.name: path.read_bytes() for path in (checkout / "data/index").iterdir()} == alone
    assert (
        yaml.safe_load(lock)["stages"]["index"]
        == yaml.safe_load((checkout / "dvc.lock").read_text())["stages"]["index"]
    )
    index = TrainingIndex(checkout / "data/index", checkout / "images")
    for i in range(len(index)):
        assert index.picture(i).size in ((64, 64), (20, 30), (100, 50))


@pytest.mark.slow
def test_a_users_own_pictures_are_trained_on_with_three_lines_of_settings(checkout: Path) -> None:
    """What the README shows."""
    select(checkout, "mine")
    ran = repro(checkout, "train")
    assert ran[:4] == [f"{stage}@mine" for stage in CHAIN] and ran[-1] == "train"
    assert json.loads((checkout / "metrics/data.json").read_text())["mine"]["rows_out"] == CUSTOM["expected_images"]
    training = json.loads((checkout / "metrics/train.json").read_text())
    assert (training["steps"], training["samples"]) == (6, 96)
    assert (checkout / "models/caft.safetensors").exists()
    assert str(checkout).encode() not in (checkout / "data/urls/mine.parquet").read_bytes()


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Params, list[tuple[int, int, int]]]:
    """Settings of a user's corpus of 12 pictures, and their colours; the working folder holds them."""
    colours = write_photos(tmp_path / "photos", 12)
    entry = {**CUSTOM, "expected_images": 12}
    fetching = {"fetch": {"second_pass": False, "images_per_shard": 100, "retries": 0}}
    (tmp_path / "mine.yaml").write_text(json.dumps({"corpora": ["mine"], "corpus": {"mine": entry}, **fetching}))
    monkeypatch.setenv("CAFT_STORAGE", str(tmp_path / "storage"))
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    params = load_params(PROJECT / "params.yaml", [tmp_path / "mine.yaml"])
    monkeypatch.chdir(tmp_path)
    return params, colours


def run_source(params: Params) -> list[dict[str, Any]]:
    source_stage.main(params, argparse.Namespace(corpus="mine"))
    rows: list[dict[str, Any]] = pq.read_table("data/urls/mine.parquet").to_pylist()
    return rows


def test_csv_and_parquet_of_the_same_rows_give_the_same_table(photos: tuple[Params, Any], tmp_path: Path) -> None:
    params, _ = photos
    rows = run_source(params)
    assert len(rows) == 12 and rows[0]["url"] == "file:0.jpg"
    assert rows[1]["url"] == "file:more%20photos/%C3%A9t%C3%A9%20%231%25.png"
    assert rows[1]["long_ib"].startswith("A plain field 1.") and rows[1]["short_ib"] == "field 1"
    assert rows[0]["short_ib"] is None and rows[0]["raw"] is None
    with (tmp_path / "photos/captions.csv").open(newline="", encoding="utf-8") as file:
        table = pa.Table.from_pylist(list(csv.DictReader(file)))
    pq.write_table(table, tmp_path / "photos/captions.parquet")
    entry = params.corpus["mine"].model_copy(update={"table": "photos/captions.parquet"})
    again = run_source(params.model_copy(update={"corpus": {**params.corpus, "mine": entry}}))
    assert again == rows
    summary = json.loads(Path("data/urls/mine.json").read_text())
    assert summary["source"]["bytes"] == (tmp_path / "photos/captions.parquet").stat().st_size


@pytest.mark.slow
def test_pictures_come_from_files_without_a_server_and_missing_ones_are_counted(photos: tuple[Params, Any]) -> None:
    params, colours = photos
    Path("photos/4.jpg").unlink()
    Path("photos/6.jpg").write_bytes(b"no picture")
    rows = {row["row_id"]: row for row in run_source(params)}
    assert pictures_home(params.corpus["mine"]) == Path("photos").resolve()
    shown = r"the first are 4.jpg \(no_file\), 6.jpg \(decode\), and all are in data/images/mine.lost.csv"
    with pytest.raises(DataError, match=rf"2 of 12 pictures are lost: .*{shown}.*corpus.mine.fetch.minimum_yield"):
        fetch(params, "mine", Path("data/urls/mine.parquet"))
    assert Path("data/images/mine.lost.csv").read_text() == "row_id,url,cause\n4,4.jpg,no_file\n6,6.jpg,decode\n"
    entry = params.corpus["mine"].model_copy(update={"fetch": FetchOverrides(minimum_yield=0.8)})
    params = params.model_copy(update={"corpus": {**params.corpus, "mine": entry}})
    manifest = fetch(params, "mine", Path("data/urls/mine.parquet"))
    assert (manifest["successes"], manifest["lost"]) == (10, {"decode": 1, "no_file": 1})
    images, urls, work = (Path(name).resolve() for name in ("storage/images/mine", "data/urls/mine.parquet", "work"))
    join_captions(manifest, images, urls, work)
    tar = Path("storage/images/mine/00000.tar").read_bytes()
    seen = 0
    for row in pq.read_table("work/00000.parquet").to_pylist():
        image = Image.open(io.BytesIO(tar[row["offset"] : row["offset"] + row["size"]]))
        assert np.abs(np.asarray(image)[0, 0] - np.array(colours[row["row_id"]])).max() < 12
        assert row["long_ib"] == rows[row["row_id"]]["long_ib"]
        seen += 1
    assert seen == 10


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("path,text", "found the columns path, text; expected: url or path, and of long_caption"),
        ("path,url,long_caption", "found the columns path, url, long_caption; expected: url or path"),
        ("name,long_caption", "expected: url or path"),
    ],
)
def test_a_table_in_other_columns_is_one_clear_error(photos: tuple[Params, Any], header: str, words: str) -> None:
    Path("photos/captions.csv").write_text(f"{header}\na,b,c\n")
    with pytest.raises(DataError, match=words):
        run_source(photos[0])
    assert not Path("data/urls/mine.parquet").exists()


def test_a_column_of_numbers_and_a_missing_table_are_clear_errors(photos: tuple[Params, Any], tmp_path: Path) -> None:
    params, _ = photos
    pq.write_table(pa.table({"url": [1, 2], "long_caption": ["a", "b"]}), tmp_path / "photos/t.parquet")
    entry = params.corpus["mine"].model_copy(update={"table": "photos/t.parquet"})
    with pytest.raises(DataError, match="column url is int64, expected string"):
        run_source(params.model_copy(update={"corpus": {**params.corpus, "mine": entry}}))
    shutil.rmtree("photos")
    with pytest.raises(DataError, match="captions of corpus mine are not there. Set corpus.mine.table"):
        run_source(params)


def test_the_published_form_is_taken_with_its_flaws(tmp_path: Path) -> None:
    """The generator of published rows says itself how many records have which flaw."""
    dropped = write_table(tmp_path / "list.csv", 3000, seed=3)
    assert dropped.keys() == {"bad_record", "duplicate_url", "no_caption", "null_url"}
    convert_table(tmp_path / "list.csv", "cc3m", tmp_path / "urls", tmp_path / "work")
    summary = json.loads((tmp_path / "urls/cc3m.json").read_text())
    assert summary["rows_in"] == 3000 and summary["dropped"] == dropped
    size = (tmp_path / "list.csv").stat().st_size
    assert 1800 < size / 3000 < 2400
