import argparse
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caft.data.crawl.listing import describe, fingerprint
from caft.data.crawl.manifest import Manifest
from caft.data.tables.schema import FIELDS, URLS
from caft.data.tables.work import content_fingerprint
from caft.errors import DataError
from caft.params import load_params
from pipelines import select

FILES = ("urls/{}.json", "images/{}.json", "captions/{}/00000.parquet", "sentences/{}/00000.parquet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "00000.parquet").write_bytes(b"a")
    (folder / "00001.parquet").write_bytes(b"b")
    return folder


def test_fingerprint_depends_on_names_and_contents_alone(folder: Path, tmp_path: Path) -> None:
    before = content_fingerprint(folder)
    assert content_fingerprint(folder.rename(tmp_path / "elsewhere")) == before
    folder = tmp_path / "elsewhere"
    (folder / ".00002.parquet").write_bytes(b"a temporary file")
    assert content_fingerprint(folder) == before
    (folder / "00001.parquet").write_bytes(b"c")
    changed = content_fingerprint(folder)
    (folder / "00001.parquet").write_bytes(b"b")
    (folder / "00001.parquet").rename(folder / "00003.parquet")
    assert len({before, changed, content_fingerprint(folder)}) == 3


def test_empty_folder_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing: not found, or holds no table"):
        content_fingerprint(tmp_path / "nothing")


@pytest.mark.parametrize(
    "changed", ["urls/{}.json", "images/{}.json", "captions/{}/00000.parquet", "sentences/{}/00000.parquet"]
)
def test_stage_lists_the_selected_corpora_and_sees_every_change(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "overlay.yaml").write_text("corpora: [cc12m, cc3m]\n")
    params = load_params("params.yaml", [tmp_path / "overlay.yaml"])
    for name in ("cc3m", "cc12m", "yfcc15m"):
        for path in FILES:
            file = tmp_path / "data" / path.format(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(path)
    monkeypatch.chdir(tmp_path)

    def run() -> dict[str, str]:
        select.main(params, argparse.Namespace())
        entries = json.loads(Path("data/corpora.json").read_text())
        assert [entry["name"] for entry in entries] == ["cc12m", "cc3m"]
        return {entry["name"]: entry["fingerprint"] for entry in entries}

    before = run()
    assert run() == before
    (tmp_path / "data" / changed.format("yfcc15m")).write_text("not selected")
    assert run() == before
    (tmp_path / "data" / changed.format("cc3m")).write_text("other")
    after = run()
    assert after["cc12m"] == before["cc12m"] and after["cc3m"] != before["cc3m"]


def test_addresses_that_change_places_are_seen_since_positions_in_the_index_follow_them(tmp_path: Path) -> None:
    """No other file tells: pictures, captions and row ids stay as they were."""
    found = set()
    for number, urls in enumerate((["https://a/1", "https://a/2"], ["https://a/2", "https://a/1"])):
        columns = [pa.array([0, 1]), pa.array(urls), *[pa.nulls(2, pa.string())] * len(FIELDS)]
        pq.write_table(pa.table(columns, schema=URLS), tmp_path / f"{number}.parquet")
        manifest = Manifest("one", fingerprint(describe(tmp_path / f"{number}.parquet")), ())
        (tmp_path / "one.json").write_text(json.dumps(manifest.as_json()))
        found.add(content_fingerprint(tmp_path / "one.json"))
    assert len(found) == 2
