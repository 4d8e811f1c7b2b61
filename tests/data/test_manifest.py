import hashlib
import json
import os
import re
from pathlib import Path

import pytest

from caft.data.crawl.fetch import ensure_images
from caft.data.crawl.manifest import Manifest, Shard, known_shard, note_shard, read_manifest, rows_fingerprint, verify
from caft.digests import file_digest
from caft.errors import ManifestError
from caft.params import load_params

PARAMS = Path(__file__).parents[2] / "params.yaml"


def shard(name: str, successes: int, lost: dict[str, int]) -> Shard:
    return Shard(
        name, successes + sum(lost.values()), successes, lost, 4, hashlib.sha256(b"data").hexdigest(), name * 4
    )


MANIFEST = Manifest("c", "s", (shard("00000", 5, {"timeout": 1, "decode": 2}), shard("00001", 3, {"decode": 1})))


def write_shards(folder: Path) -> None:
    for entry in MANIFEST.shards:
        (folder / f"{entry.name}.tar").write_bytes(b"data")
        (folder / f"{entry.name}.parquet").touch()
        (folder / f"{entry.name}_stats.json").touch()
        note_shard(folder, entry)


def test_totals_are_the_sums_of_the_shards() -> None:
    content = MANIFEST.as_json()
    assert (content["rows"], content["successes"], content["lost"]) == (12, 8, {"decode": 3, "timeout": 1})
    assert content["rows"] == content["successes"] + sum(content["lost"].values())


def test_manifest_survives_its_file(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps(MANIFEST.as_json()))
    assert read_manifest(tmp_path / "c.json") == MANIFEST


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 13}, "rows is 13, but its shards add up to 12"),
        ({"lost": {}}, "lost is {}"),
        ({"fingerprint": "x"}, "dvc repro --force fetch@c"),
        ({"shards": [{"name": "00000"}]}, "is no manifest of image shards"),
    ],
)
def test_manifest_that_does_not_add_up_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    (tmp_path / "c.json").write_text(json.dumps(MANIFEST.as_json() | change))
    with pytest.raises(ManifestError, match=message):
        read_manifest(tmp_path / "c.json")


def test_missing_manifest_names_its_stage(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"cc3m\.json: not found; run `dvc repro fetch@cc3m`"):
        read_manifest(tmp_path / "cc3m.json")


def test_whole_folder_verifies(tmp_path: Path) -> None:
    write_shards(tmp_path)
    assert verify(MANIFEST, tmp_path) == {}


@pytest.mark.parametrize("ending", [".tar", ".parquet", "_stats.json"])
def test_missing_file_is_seen(tmp_path: Path, ending: str) -> None:
    write_shards(tmp_path)
    (tmp_path / f"00001{ending}").unlink()
    assert verify(MANIFEST, tmp_path) == {"00001": f"00001{ending} not there"}


def test_tar_changed_since_it_was_read_is_seen_even_at_the_same_size(tmp_path: Path) -> None:
    write_shards(tmp_path)
    (tmp_path / "00000.tar").write_bytes(b"tata")
    os.utime(tmp_path / "00000.tar", ns=(1, 1))
    assert known_shard(tmp_path, "00000") is None
    problem = f"00000.tar has other content (SHA-256 {hashlib.sha256(b'tata').hexdigest()[:12]}) than when it was read"
    assert verify(MANIFEST, tmp_path) == {"00000": problem}


def test_a_tar_of_another_size_says_both(tmp_path: Path) -> None:
    write_shards(tmp_path)
    (tmp_path / "00001.tar").write_bytes(b"datadata")
    assert verify(MANIFEST, tmp_path) == {"00001": "00001.tar has 8 bytes, and had 4 when it was read"}


def test_a_lost_note_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path)
    (tmp_path / "about/00000.json").unlink()
    assert re.fullmatch(
        r".*about/00000\.json, which says what .*, cannot be read .*", verify(MANIFEST, tmp_path)["00000"]
    )


def read_tars(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tars whose content is read from now on."""
    read: list[str] = []

    def digest(path: Path) -> str:
        read.append(path.name)
        return file_digest(path)

    monkeypatch.setattr("caft.data.crawl.manifest.file_digest", digest)
    return read


def test_a_copy_with_whole_seconds_is_known_and_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(tmp_path)
    read = read_tars(monkeypatch)
    for entry in MANIFEST.shards:
        path = tmp_path / f"{entry.name}.tar"
        os.utime(path, (1, int(path.stat().st_mtime)))  # as tar, rsync to many file systems and object stores leave it
    assert verify(MANIFEST, tmp_path) == {} and read == []


def test_a_copy_with_another_time_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_shards(tmp_path)
    read = read_tars(monkeypatch)
    os.utime(tmp_path / "00001.tar", (1, 1))
    with caplog.at_level("INFO"):
        assert verify(MANIFEST, tmp_path) == {}
    assert "00001.tar: has another time of change than when it was read; its content is compared" in caplog.text
    assert verify(MANIFEST, tmp_path) == {} and read == ["00001.tar"]


def test_shard_of_another_fetch_is_seen(tmp_path: Path) -> None:
    write_shards(tmp_path)
    other = Shard("00000", 8, 5, MANIFEST.shards[0].lost, 4, "f" * 64, "0")
    note_shard(tmp_path, other)
    assert "ffffffffffff" in verify(MANIFEST, tmp_path)["00000"]


def test_rows_fingerprint_is_that_of_the_sorted_lines() -> None:
    expected = hashlib.sha256(b"2 bb\n10 aa\n").hexdigest()
    assert rows_fingerprint([(10, "aa"), (2, "bb")]) == rows_fingerprint([(2, "bb"), (10, "aa")]) == expected


def test_the_error_says_what_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAFT_STORAGE", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # without data/urls, so that nothing is fetched
    folder = tmp_path / "images/c"
    folder.mkdir(parents=True)
    write_shards(folder)
    (folder / "00001.tar").write_bytes(b"datadata")
    with pytest.raises(ManifestError, match=r"1 of the 2 shards in .* 00001: 00001\.tar has 8 bytes, and had 4 when"):
        ensure_images(load_params(PARAMS), "c", MANIFEST.as_json())
    (folder / "00000.tar").unlink()
    with pytest.raises(ManifestError, match=r"2 of the 2 shards .* had 4 .*\(1 like this, and 1 are not there\)"):
        ensure_images(load_params(PARAMS), "c", MANIFEST.as_json())
    (folder / "00001.tar").unlink()
    with pytest.raises(ManifestError, match=r"2 of the 2 shards in data/images/c\.json are not there; and data/urls"):
        ensure_images(load_params(PARAMS), "c", MANIFEST.as_json())
