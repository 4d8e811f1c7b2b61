import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from caft.data.crawl.rows import counted_table
from caft.data.tables import recaption
from caft.data.tables.recaption import CaptionTask, join_captions, write_captions
from caft.data.tables.schema import CAPTIONS, FIELDS
from caft.data.tables.sentence_table import write_sentences
from caft.errors import DataError, SchemaError
from caft.params import load_params
from pipelines import captions as captions_stage
from pipelines import export_wds as export_stage
from tests.data.web import GOOD, SETTINGS, Fetched, colour
from tests.waiting import wait_until

PROGRAM = """
import json, sys
from pathlib import Path
from caft.data.tables import cluster
from caft.data.tables.recaption import join_captions
cluster.ALONE_SECONDS = 0.0  # by Ray at once
manifest, images, urls, work = sys.argv[1:]
join_captions(json.loads(manifest), Path(images), Path(urls), Path(work))
"""


@pytest.fixture(scope="module")
def joined(fetched: Fetched, ray: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Caption tables made without disturbance; four shards in two ranges, so that ranges are joined too."""
    work = tmp_path_factory.mktemp("joined") / "work"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recaption, "SHARDS_AT_ONCE", 3)
        summary = join_captions(fetched.manifest.as_json(), fetched.folder, fetched.urls, work)
    tars = {shard.name: shard.sha256 for shard in fetched.manifest.shards}
    assert summary == {"rows_in": GOOD, "rows_out": GOOD, "dropped": {}, "shards": tars}
    return work


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_each_image_has_the_captions_of_its_row(fetched: Fetched, joined: Path) -> None:
    source = {row["row_id"]: row for row in pq.read_table(fetched.urls).to_pylist()}
    downloaded = {
        row["key"]: row["sha256"]
        for path in fetched.folder.glob("[0-9]*.parquet")
        for row in pq.read_table(path).to_pylist()
    }
    seen = set()
    for path in joined.glob("[0-9]*.parquet"):
        tar = (fetched.folder / f"{path.stem}.tar").read_bytes()
        table = pq.read_table(path)
        assert table.schema.equals(CAPTIONS) and table.schema.metadata == CAPTIONS.metadata
        for row in table.to_pylist():
            expected = source[row["row_id"]]
            assert {field: row[field] for field in FIELDS} == {field: expected[field] for field in FIELDS}
            image = Image.open(io.BytesIO(tar[row["offset"] : row["offset"] + row["size"]]))
            assert image.size == (row["width"], row["height"])
            # The picture itself tells its number, which is also in the address and in each caption.
            number = int(expected["url"].rsplit("/", 1)[1])
            assert f"/good/{number}," in row["raw"]
            assert max(abs(a - b) for a, b in zip(image.getpixel((9, 9)), colour(number), strict=True)) < 12
            assert row["download_sha256"] == downloaded[row["key"]]
            seen.add(number)
    assert seen == set(range(GOOD))


def test_rows_and_offsets_are_those_of_tarfile(fetched: Fetched, joined: Path) -> None:
    for shard in fetched.manifest.shards:
        with tarfile.open(fetched.folder / f"{shard.name}.tar") as tar:
            expected = [(info.name, info.offset_data, info.size) for info in tar if info.name.endswith(".jpg")]
        rows = pq.read_table(joined / f"{shard.name}.parquet").to_pylist()
        assert [(row["key"] + ".jpg", row["offset"], row["size"]) for row in rows] == expected


def test_same_input_gives_the_same_bytes(fetched: Fetched, joined: Path, tmp_path: Path) -> None:
    join_captions(fetched.manifest.as_json(), fetched.folder, fetched.urls, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(joined)


def test_shifted_join_is_caught(fetched: Fetched, tmp_path: Path) -> None:
    table = pq.read_table(fetched.urls)
    row_ids = table["row_id"].to_pylist()
    shifted = table.set_column(0, "row_id", pa.array(row_ids[1:] + row_ids[:1], pa.int64()))
    pq.write_table(shifted, tmp_path / "urls.parquet")
    with pytest.raises(DataError, match=f"{GOOD} images do not have the URL of their caption row; first is row"):
        join_captions(fetched.manifest.as_json(), fetched.folder, tmp_path / "urls.parquet", tmp_path / "work")


def test_rows_of_shards_tables_do_not_matter_and_those_of_the_counted_table_do(
    fetched: Fetched, joined: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(fetched.folder, images)
    for path in images.glob("[0-9]*.parquet"):  # as after a row was added before all others
        table = pq.read_table(path)
        shifted = pa.array([row + 1 for row in table["row_id"].to_pylist()], pa.int64())
        pq.write_table(table.set_column(table.column_names.index("row_id"), "row_id", shifted), path)
    join_captions(fetched.manifest.as_json(), images, fetched.urls, tmp_path / "work")
    assert contents(tmp_path / "work") == contents(joined)
    counted = pq.read_table(counted_table(images))
    ids = counted["row_id"].to_pylist()
    pq.write_table(counted.set_column(0, "row_id", pa.array(ids[1:] + ids[:1], pa.int64())), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=f"{GOOD} images do not have the URL of their caption row; first is row"):
        join_captions(
            *(fetched.manifest.as_json(), images, fetched.urls, tmp_path / "other"), counted=tmp_path / "rows.parquet"
        )


def test_table_without_captions_is_refused(fetched: Fetched, tmp_path: Path) -> None:
    pq.write_table(pq.read_table(fetched.urls).drop_columns(["long_sv"]), tmp_path / "urls.parquet")
    with pytest.raises(SchemaError, match=r"urls\.parquet: column long_sv is missing"):
        join_captions(fetched.manifest.as_json(), fetched.folder, tmp_path / "urls.parquet", tmp_path / "work")


def test_tar_that_is_not_that_of_its_table_is_refused(fetched: Fetched, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(fetched.folder, images)
    recaption._gather(counted_table(images), ["00001"], fetched.urls, tmp_path / "gathered.parquet", 2)
    shutil.copy(images / "00002.tar", images / "00001.tar")
    with pytest.raises(DataError, match=r"00001\.tar: \d+ pictures are not the \d+ of its table"):
        write_captions(CaptionTask(images / "00001.tar", tmp_path / "gathered.parquet", tmp_path / "00001.parquet"))
    assert not (tmp_path / "00001.parquet").exists()


def test_the_table_of_a_tar_without_pictures_has_no_row_group(fetched: Fetched, tmp_path: Path) -> None:
    tarfile.open(tmp_path / "00099.tar", "w").close()
    recaption._gather(counted_table(fetched.folder), ["00001"], fetched.urls, tmp_path / "gathered.parquet", 2)
    target = tmp_path / "00099.parquet"
    assert write_captions(CaptionTask(tmp_path / "00099.tar", tmp_path / "gathered.parquet", target)) == 0
    file = pq.ParquetFile(target)
    assert file.num_row_groups == 0 and file.schema_arrow.equals(CAPTIONS, check_metadata=True)
    write_sentences(target, tmp_path / "sentences.parquet")
    assert pq.ParquetFile(tmp_path / "sentences.parquet").num_row_groups == 0


@pytest.mark.slow
def test_killed_join_is_completed_by_the_next(fetched: Fetched, joined: Path, tmp_path: Path) -> None:
    images, work = tmp_path / "images", tmp_path / "work"
    shutil.copytree(fetched.folder, images)
    (images / "00002.tar").unlink()
    os.mkfifo(images / "00002.tar")  # its task waits for ever
    manifest = fetched.manifest.as_json()
    arguments = [json.dumps(manifest), str(images), str(fetched.urls), str(work)]
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], start_new_session=True)
    others = [work / f"{name}.parquet" for name in ("00000", "00001", "00003")]
    try:
        wait_until(lambda: all(path.exists() for path in others), 130, process)
        family = psutil.Process(process.pid).children(recursive=True)
    finally:
        os.killpg(process.pid, 9)
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive, "Ray outlives the stage"
    assert not (work / "00002.parquet").exists()
    before = [path.stat().st_mtime_ns for path in others]
    (images / "00002.tar").unlink()
    shutil.copy(fetched.folder / "00002.tar", images)
    join_captions(manifest, images, fetched.urls, work)
    assert contents(work) == contents(joined)
    assert [path.stat().st_mtime_ns for path in others] == before


def test_stage_publishes_whole_folders_and_clears_up(
    fetched: Fetched, joined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "overlay.yaml").write_text(json.dumps({"fetch": SETTINGS.model_dump()}))
    params = load_params("params.yaml", [tmp_path / "overlay.yaml"])
    monkeypatch.setenv("CAFT_STORAGE", str(tmp_path / "storage"))
    shutil.copytree(fetched.folder, tmp_path / "storage" / "images" / "cc3m")
    for folder in ("urls", "images"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    shutil.copy(fetched.urls, tmp_path / "data" / "urls" / "cc3m.parquet")
    manifest = {**fetched.manifest.as_json(), "corpus": "cc3m"}
    (tmp_path / "data" / "images" / "cc3m.json").write_text(json.dumps(manifest))
    shutil.copy(counted_table(fetched.folder), tmp_path / "data" / "images" / "cc3m.parquet")
    stale = tmp_path / "storage" / "scratch" / "captions" / "cc3m" / "0123456789abcdef"
    stale.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    captions_stage.main(params, argparse.Namespace(corpus="cc3m"))
    assert contents(Path("data/captions/cc3m")) == contents(joined)
    tars = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in fetched.folder.glob("[0-9]*.tar")}
    assert json.loads(Path("data/captions/cc3m.json").read_text())["shards"] == tars
    export_stage.main(params, argparse.Namespace(corpus="cc3m", folder=tmp_path / "tars"))
    assert sum(json.loads((tmp_path / "tars/sizes.json").read_text()).values()) == GOOD
    assert [path.name for path in stale.parent.iterdir()] == [".lock"]
