import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caft.data.manifest import shard_files
from caft.data.recaption import join_captions
from caft.data.schema import CAPTIONS, FIELDS
from caft.errors import DataError, SchemaError
from caft.params import Params
from pipelines import captions, select
from tests.data.web import Fetched

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray")]

# The same work in a process of its own, with its own Ray.
PROGRAM = """
import json, sys
from pathlib import Path
from caft.data.recaption import join_captions
manifest, images, urls, work = sys.argv[1:]
join_captions(json.loads(manifest), Path(images), Path(urls), Path(work))
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def joined(fetched: Fetched, ray: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of a join that nothing has disturbed."""
    work = tmp_path_factory.mktemp("joined")
    join_captions(fetched.manifest.as_json(), fetched.folder, fetched.urls, work)
    return work


def test_each_table_lists_the_pictures_of_its_tar_where_tarfile_finds_them(fetched: Fetched, joined: Path) -> None:
    for shard in fetched.manifest.shards:
        with tarfile.open(fetched.folder / f"{shard.name}.tar") as tar:
            expected = [(info.name, info.offset_data, info.size) for info in tar if info.name.endswith(".jpg")]
        table = pq.read_table(joined / f"{shard.name}.parquet")
        assert table.schema.equals(CAPTIONS, check_metadata=True)
        found = [(f"{row['key']}.jpg", row["offset"], row["size"]) for row in table.to_pylist()]
        assert found == expected and len(found) == shard.successes


def test_each_picture_has_the_captions_of_its_address(fetched: Fetched, joined: Path) -> None:
    source = {row["url"]: row for row in pq.read_table(fetched.urls).to_pylist()}
    for shard in fetched.manifest.shards:
        # The address as it was written beside the picture, inside the tar.
        with tarfile.open(fetched.folder / f"{shard.name}.tar") as tar:
            beside = {i.name.split(".")[0]: json.load(tar.extractfile(i)) for i in tar if i.name.endswith(".json")}  # type: ignore[arg-type]
        for row in pq.read_table(joined / f"{shard.name}.parquet").to_pylist():
            described = beside[row["key"]]
            expected = source[described["url"]]
            assert [row[name] for name in ("row_id", *FIELDS)] == [expected[name] for name in ("row_id", *FIELDS)]
            assert [row[name] for name in ("width", "height", "sha256")] == [
                described[name] for name in ("width", "height", "sha256")
            ]


def test_summary_counts_every_image(fetched: Fetched, joined: Path) -> None:
    summary = json.loads((joined / "_summary.json").read_text())
    assert summary == {"rows_in": fetched.manifest.successes, "rows_out": fetched.manifest.successes, "dropped": {}}
    assert sorted(contents(joined)) == [
        "00000.parquet",
        "00001.parquet",
        "00002.parquet",
        "00003.parquet",
        "_summary.json",
    ]


def test_killed_join_goes_on_where_it_was_and_gives_the_same_bytes(
    fetched: Fetched, joined: Path, tmp_path: Path
) -> None:
    images, work = tmp_path / "images", tmp_path / "work"
    shutil.copytree(fetched.folder, images)
    blocked = images / "00003.tar"
    blocked.unlink()
    os.mkfifo(blocked)  # its task waits here for ever
    arguments = [json.dumps(fetched.manifest.as_json()), str(images), str(fetched.urls), str(work)]
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments])
    try:
        others = [work / f"0000{number}.parquet" for number in range(3)]
        deadline = time.monotonic() + 120
        while not all(path.exists() for path in others):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in others}
    assert not (work / "00003.parquet").exists() and not (work / "_summary.json").exists()
    blocked.unlink()
    shutil.copy(fetched.folder / "00003.tar", blocked)
    join_captions(fetched.manifest.as_json(), images, fetched.urls, work)
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in others} == before
    assert contents(work) == contents(joined)


def test_captions_shifted_by_one_row_are_refused(fetched: Fetched, tmp_path: Path) -> None:
    table = pq.read_table(fetched.urls)
    addresses = table["url"].to_pylist()
    shifted = table.set_column(1, "url", pa.array(addresses[1:] + addresses[:1]))
    pq.write_table(shifted, tmp_path / "urls.parquet")
    with pytest.raises(DataError, match="34 images do not have the URL of their caption row; first is row"):
        join_captions(fetched.manifest.as_json(), fetched.folder, tmp_path / "urls.parquet", tmp_path / "work")


def test_image_whose_caption_row_is_gone_is_refused(fetched: Fetched, tmp_path: Path) -> None:
    first = next(row for row in pq.read_table(fetched.folder / "00000.parquet").to_pylist() if row["sha256"])
    table = pq.read_table(fetched.urls)
    pq.write_table(
        table.filter(pa.array([row != first["row_id"] for row in table["row_id"].to_pylist()])), tmp_path / "u"
    )
    with pytest.raises(DataError, match=f"1 images do not have.*first is row {first['row_id']}, .* has None"):
        join_captions(fetched.manifest.as_json(), fetched.folder, tmp_path / "u", tmp_path / "work")


def test_tar_of_another_shard_is_refused_by_name(fetched: Fetched, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(fetched.folder, images)
    shutil.copy(images / "00002.tar", images / "00001.tar")
    with pytest.raises(DataError, match=r"00001\.tar: \d+ pictures are not the \d+ of its table 00001\.parquet"):
        join_captions(fetched.manifest.as_json(), images, fetched.urls, tmp_path / "work")
    assert not (tmp_path / "work" / "_summary.json").exists()


def test_table_without_a_caption_column_is_refused(fetched: Fetched, tmp_path: Path) -> None:
    pq.write_table(pq.read_table(fetched.urls).drop_columns(["long_sv"]), tmp_path / "urls.parquet")
    with pytest.raises(SchemaError, match=r"urls\.parquet: column long_sv is missing"):
        join_captions(fetched.manifest.as_json(), fetched.folder, tmp_path / "urls.parquet", tmp_path / "work")


class Corpus:
    corpus = "cc3m"


def test_captions_stage_heals_images_and_gives_the_same_bytes_again(
    fetched: Fetched, joined: Path, project: Params
) -> None:
    (Path("data/images")).mkdir()
    Path("data/images/cc3m.json").write_text(json.dumps(fetched.manifest.as_json() | {"corpus": "cc3m"}))
    shutil.rmtree("images/cc3m")
    old = Path("work/captions/cc3m/0123456789abcdef")
    old.mkdir(parents=True)
    captions.main(project, Corpus())  # type: ignore[arg-type]
    assert contents(Path("data/captions/cc3m")) == contents(joined)
    assert not old.exists()  # it was of other inputs
    shutil.rmtree("data/captions/cc3m")  # as DVC does before a stage
    for file in shard_files(Path("images/cc3m"), "00001"):
        file.unlink()
    captions.main(project, Corpus())  # type: ignore[arg-type]
    assert contents(Path("data/captions/cc3m")) == contents(joined)


def test_selection_follows_content_and_names_what_is_missing(project: Params) -> None:
    for folder in ("captions", "sentences", "images"):
        Path("data", folder).mkdir()
    chosen = project.model_copy(update={"corpora": ("cc3m",)})
    Path("data/urls/cc3m.json").write_text("{}")
    Path("data/images/cc3m.json").write_text("{}")
    for folder in ("captions", "sentences"):
        Path("data", folder, "cc3m").mkdir()
        Path("data", folder, "cc3m", "00000.parquet").write_bytes(b"one")
    fingerprints = []
    changes = {
        "data/sentences/cc3m/00000.parquet": b"two",
        "data/images/cc3m.json": b"[]",
        "data/captions/cc3m/1.parquet": b"",
    }
    for change in (None, None, *changes):
        if change:
            Path(change).write_bytes(changes[change])
        select.main(chosen, Corpus())  # type: ignore[arg-type]
        [entry] = json.loads(Path("data/corpora.json").read_text())
        assert entry["name"] == "cc3m"
        fingerprints.append(entry["fingerprint"])
    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints)) == 4
    shutil.rmtree("data/sentences/cc3m")
    with pytest.raises(DataError, match="data/sentences/cc3m: not found, or holds no table"):
        select.main(chosen, Corpus())  # type: ignore[arg-type]
