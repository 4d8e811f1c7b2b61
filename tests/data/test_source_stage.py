"""The stage `source`: the rendered corpus in at one end, tables and evaluation sets out at the other."""

import argparse
import csv
import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from caft.data.tables.schema import FIELDS
from caft.errors import DataError
from caft.params import Params, load_params
from caft.params.corpora import RecaptionCorpus
from pipelines.source import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The default settings with a small rendered corpus, run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAFT_STORAGE", str(tmp_path / "storage"))
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    params = load_params(ROOT / "params.yaml")
    small = params.corpus["scenes"].model_copy(update={"images": 50, "evaluation_images": 8, "regions": 4})
    return params.model_copy(update={"corpus": {**params.corpus, "scenes": small}})


def run(params: Params, corpus: str) -> None:
    main(params, argparse.Namespace(corpus=corpus))


def csv_of(params: Params, corpus: str) -> Path:
    published = params.corpus[corpus]
    assert isinstance(published, RecaptionCorpus)
    return Path(published.csv)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_scenes_become_a_table_with_every_link_but_the_repetitions(params: Params, tmp_path: Path) -> None:
    run(params, "scenes")
    with (tmp_path / "storage/scratch/source/scenes.csv").open(newline="", encoding="utf-8") as file:
        source = list(csv.DictReader(file))
    table = pq.read_table("data/urls/scenes.parquet").to_pylist()
    kinds = Counter(row["url"].split("/")[3] for row in table)
    assert kinds == {"train": 50, "missing": 16, "server_error": 4, "stalled": 2, "corrupt": 6, "opt_out": 6}
    assert len({row["url"] for row in table}) == len(table) == len(source) - 8
    columns = [name for name in source[0] if name != "Image Path"]
    for row in table:
        published = source[row["row_id"]]
        assert row["url"] == published["Image Path"]
        assert [row[field] or "" for field in FIELDS] == [published[name] for name in columns]
    summary = json.loads(Path("data/urls/scenes.json").read_text())
    assert summary["rows_in"] == len(source) and summary["dropped"] == {"duplicate_url": 8}
    assert {path.name for path in Path("data/benchmarks/scenes").iterdir()} == {
        "random",
        "look_alike",
        "refer",
        "fg_ovd",
        "composition",
        "colours",
        "shapes",
    }


def test_a_second_run_gives_equal_bytes_and_replaces_what_is_there(params: Params) -> None:
    run(params, "scenes")
    first = contents(Path("data"))
    Path("data/benchmarks/scenes/stray").write_text("from an older version")
    run(params, "scenes")
    assert contents(Path("data")) == first


def test_a_published_corpus_brings_no_evaluation_sets(params: Params) -> None:
    path = csv_of(params, "cc3m")
    path.parent.mkdir(parents=True)
    run(params, "scenes")
    path.write_bytes(Path("storage/scratch/source/scenes.csv").read_bytes())
    run(params, "cc3m")
    assert contents(Path("data/benchmarks/cc3m")) == {
        "README.md": b"The corpus cc3m brings no evaluation sets. Folders of other sets are described one level up.\n"
    }
    assert pq.read_table("data/urls/cc3m.parquet") == pq.read_table("data/urls/scenes.parquet")


def test_the_csv_is_found_in_the_main_checkout_from_an_experiments_copy(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(params, "scenes")
    path = tmp_path / csv_of(params, "cc3m")
    path.parent.mkdir(parents=True)
    path.write_bytes((tmp_path / "storage/scratch/source/scenes.csv").read_bytes())
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    run(params, "cc3m")
    assert json.loads(Path("data/urls/cc3m.json").read_text())["source"]["file"] == path.name


def test_a_missing_csv_is_one_clear_error_and_leaves_nothing(params: Params) -> None:
    with pytest.raises(DataError, match="the captions of corpus yfcc15m are not there. Fetch yfcc15m_3long_3short"):
        run(params, "yfcc15m")
    assert contents(Path("data")) == {}
