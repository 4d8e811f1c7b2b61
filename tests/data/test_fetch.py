import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from caft.data.crawl.fetch import ensure_images, fetch, fetch_images
from caft.data.crawl.manifest import known_shard
from caft.data.crawl.rows import counted_table
from caft.data.crawl.tars import members
from caft.errors import DataError, ManifestError
from caft.params import Params
from caft.storage import write_json
from pipelines import captions, index
from tests.data.web import FAULTS, GOOD, SETTINGS, Fetched, Web, colour, url_table

pytestmark = pytest.mark.slow  # img2dataset takes seconds to start

# The whole stage's work in a process of its own: address list, folder and settings as arguments.
PROGRAM = """
import json, sys
from contextlib import nullcontext
from pathlib import Path
from caft.data.crawl.fetch import fetch_images
from caft.params.corpora import FetchParams
urls, folder, settings = sys.argv[1:]
manifest = fetch_images("web", Path(urls), Path(folder), FetchParams(**json.loads(settings)), nullcontext())
print(json.dumps(manifest.as_json()))
"""


def start(urls: Path, folder: Path) -> subprocess.Popen[bytes]:
    arguments = [str(urls), str(folder), json.dumps(SETTINGS.model_dump())]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE)


def rows_of(folder: Path, status: str = "success") -> dict[str, list[dict[str, object]]]:
    """Rows of each shard's table with a status."""
    tables = sorted(folder.glob("[0-9]*.parquet"))
    return {path.stem: [row for row in pq.read_table(path).to_pylist() if row["status"] == status] for path in tables}


def images_of(folder: Path, name: str) -> dict[str, Image.Image]:
    """Pictures of a shard by key."""
    content = (folder / f"{name}.tar").read_bytes()
    return {
        member.name.removesuffix(".jpg"): Image.open(io.BytesIO(content[member.offset : member.offset + member.size]))
        for member in members(folder / f"{name}.tar")
        if member.name.endswith(".jpg")
    }


def test_losses_by_cause_are_what_the_server_did(fetched: Fetched) -> None:
    expected: Counter[str] = Counter()
    for count, cause in FAULTS.values():
        expected[cause] += count
    assert fetched.manifest.lost == dict(expected)
    assert fetched.manifest.successes == GOOD
    assert fetched.manifest.rows == GOOD + expected.total() == pq.read_metadata(fetched.urls).num_rows
    assert [shard.rows for shard in fetched.manifest.shards] == [12, 12, 12, 12]
    assert set(fetched.requests.values()) == {1}


def test_each_picture_is_that_of_its_row_at_its_size(fetched: Fetched) -> None:
    asked = {row["row_id"]: row["url"] for row in pq.read_table(fetched.urls).to_pylist()}
    seen = 0
    for name, rows in rows_of(fetched.folder).items():
        images = images_of(fetched.folder, name)
        assert sorted(images) == sorted(row["key"] for row in rows)
        for row in rows:
            assert asked[row["row_id"]] == row["url"]
            number = int(str(row["url"]).rsplit("/", 1)[1])
            image = images[str(row["key"])]
            # Reduced to a short side of 32, never enlarged, nothing padded.
            assert image.size == ((20, 30) if number % 5 == 0 else (64, 32))
            for corner in ((0, 0), (image.width - 1, image.height - 1)):
                difference = [abs(a - b) for a, b in zip(image.getpixel(corner), colour(number), strict=True)]
                assert max(difference) < 12, (row, image.getpixel(corner))
            seen += 1
    assert seen == GOOD


def test_complete_folder_is_not_fetched_again(fetched: Fetched, web: Web) -> None:
    log = fetched.folder / "about" / "img2dataset.log"
    before = log.read_bytes()
    again = fetch_images("web", fetched.urls, fetched.folder, SETTINGS, _never())
    assert again == fetched.manifest
    assert log.read_bytes() == before
    assert not web.requests


def _never() -> "_Never":
    return _Never()


class _Never:
    """A server that must not be started."""

    def __enter__(self) -> None:
        raise AssertionError("nothing was missing")

    def __exit__(self, *_: object) -> None:
        pass


def test_folder_without_notes_is_read_and_not_fetched(fetched: Fetched, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    shutil.copytree(fetched.folder, folder)
    for note in folder.glob("about/0*.json"):
        note.unlink()
    assert fetch_images("web", fetched.urls, folder, SETTINGS, _never()) == fetched.manifest
    assert known_shard(folder, "00002") == fetched.manifest.shards[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"image_size": 48}, "image_size was 32, is 48"), ({"quality": 90}, "quality was 95, is 90")],
)
def test_other_settings_are_refused_and_the_message_says_how_to_start_over(
    fetched: Fetched, change: dict[str, int], message: str
) -> None:
    with pytest.raises(DataError, match=f"{message}.*To start over, remove that folder and run `dvc repro fetch@web`"):
        fetch_images("web", fetched.urls, fetched.folder, SETTINGS.model_copy(update=change), _never())


def test_another_list_of_the_same_addresses_is_only_counted_anew(fetched: Fetched, web: Web, tmp_path: Path) -> None:
    table = pq.read_table(fetched.urls)
    shifted = table.set_column(0, "row_id", pa.array([row + 1 for row in table["row_id"].to_pylist()], pa.int64()))
    folder = tmp_path / "images"
    shutil.copytree(fetched.folder, folder)
    won = {row["url"]: row["sha256"] for rows in rows_of(fetched.folder).values() for row in rows}
    settings = SETTINGS.model_copy(update={"images_per_shard": 10})  # which counts for shards to come
    for name, other in (("fewer", table.slice(9)), ("shifted", shifted)):
        pq.write_table(other, tmp_path / f"{name}.parquet")
        manifest = fetch_images("web", tmp_path / f"{name}.parquet", folder, settings, _never())
        expected = {row: url for row, url in zip(*other.select([0, 1]).to_pydict().values(), strict=True)}
        rows = pq.read_table(counted_table(folder)).to_pylist()
        assert {row["row_id"]: row["url"] for row in rows} == expected
        assert {row["url"]: row["download_sha256"] for row in rows} == {url: won.get(url) for url in expected.values()}
        assert manifest.rows == other.num_rows and manifest.successes == len(won.keys() & set(expected.values()))
    assert not web.requests
    assert fetch_images("web", fetched.urls, folder, SETTINGS, _never()) == fetched.manifest


@pytest.mark.slow
def test_killed_fetch_leaves_no_worker_and_is_completed_by_the_next(fetched: Fetched, web: Web, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    web.delay = 0.2
    process = start(fetched.urls, folder)
    try:
        _wait(lambda: any(folder.glob("about/0*.json")), "a first shard", 90)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert workers
    finally:
        process.kill()  # this one process, without a chance to clean up
        process.communicate()
    _wait(lambda: not any(_alive(worker) for worker in workers), "the end of img2dataset", 10)
    done = {path.stem for path in folder.glob("about/0*.json")}
    assert 1 <= len(done) < 4
    web.reset()
    assert fetch_images("web", fetched.urls, folder, SETTINGS, nullcontext()) == fetched.manifest
    assert not any(folder.glob("_tmp")) and not any(folder.glob(".*.tar"))
    again = {str(row["url"]) for name, rows in rows_of(folder).items() if name in done for row in rows}
    assert not {web.address + path for path in web.requests} & again


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _wait(condition, what: str, seconds: float) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)


@pytest.mark.slow
def test_two_fetches_at_once_and_rows_in_another_order_give_the_same_pictures(
    fetched: Fetched, web: Web, tmp_path: Path
) -> None:
    order = list(range(fetched.manifest.rows))[::-1]
    pq.write_table(url_table(web, order), tmp_path / "urls.parquet")
    processes = [start(tmp_path / "urls.parquet", tmp_path / "images") for _ in range(2)]
    first, second = (process.communicate(timeout=800)[0] for process in processes)
    assert first == second and b'"successes": 34' in first
    assert set(web.requests.values()) == {1}  # the second has waited, and found all there
    pictures = [
        {name: {row["url"]: row["sha256"] for row in rows} for name, rows in rows_of(folder).items()}
        for folder in (fetched.folder, tmp_path / "images")
    ]
    assert pictures[0] == pictures[1]


@pytest.mark.slow
def test_hanging_img2dataset_is_killed_and_run_again(
    fetched: Fetched, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "images"
    shutil.copytree(fetched.folder, folder)
    (folder / "00003.tar").unlink()
    web.hang = True
    # Longer than a start takes.
    monkeypatch.setattr("caft.data.crawl.crawl.STALL_SECONDS", 10 + 2 * fetched.seconds)
    endless = SETTINGS.model_copy(update={"timeout_total": 1000})  # else each answer would be ended first
    manifest = fetch_images("web", fetched.urls, folder, endless, nullcontext())
    assert manifest == fetched.manifest
    assert max(web.requests.values()) >= 2  # on a busy machine a start may take longer than that, and be tried again


def test_img2dataset_that_cannot_run_is_given_up_with_its_own_words(
    fetched: Fetched, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "webdataset.py").write_text('raise ImportError("webdataset is broken here")\n')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    with pytest.raises(
        DataError, match=r"run 3 times without completing one of the 4 missing.*webdataset is broken here"
    ):
        _dotall(lambda: fetch_images("web", fetched.urls, tmp_path / "images", SETTINGS, nullcontext()))


def _dotall(call) -> None:  # type: ignore[no-untyped-def]
    """Calls, with line ends in the error's message as blanks, so that a pattern can go across them."""
    try:
        call()
    except DataError as error:
        raise DataError(str(error).replace("\n", " ")) from error


def test_lost_and_damaged_shards_heal_to_the_same_tars(fetched: Fetched, web: Web, project: Params) -> None:
    folder = Path("images/cc3m")
    manifest = fetch(project, "cc3m", Path("data/urls/cc3m.parquet"))
    assert not web.requests
    (folder / "00000.tar").unlink()
    os.truncate(folder / "00001.tar", 3000)
    (folder / "00003_stats.json").write_text("")  # as a kill in the middle of writing it leaves it
    (folder / "about" / "00003.json").unlink()
    ensure_images(project, "cc3m", manifest)
    assert [shard.sha256 for shard in fetched.manifest.shards] == [entry["sha256"] for entry in manifest["shards"]]
    for name in ("00000", "00001", "00002", "00003"):
        assert (folder / f"{name}.tar").read_bytes() == (fetched.folder / f"{name}.tar").read_bytes()
    whole = {str(row["url"]) for row in rows_of(fetched.folder)["00002"]}
    assert web.requests and not {web.address + path for path in web.requests} & whole


def test_a_folder_begun_when_pictures_were_stored_as_they_lay_is_warned_of_and_stays_as_it_is(
    web: Web, project: Params, caplog: pytest.LogCaptureFixture
) -> None:
    folder, urls, rule = Path("images/cc3m"), Path("data/urls/cc3m.parquet"), Path("images/cc3m/about/decoding.json")
    assert json.loads(rule.read_text()) == {"rule": "2"}
    manifest = fetch(project, "cc3m", urls)
    assert "stored upright" not in caplog.text
    rule.unlink()  # as folders of before are
    (folder / "00001.tar").unlink()
    assert fetch(project, "cc3m", urls) == manifest and web.requests
    (line,) = [record.getMessage() for record in caplog.records if "stored upright" in record.getMessage()]
    assert line.startswith("cc3m: ") and "Remove the folder to fetch all of it again" in line
    fetch(project, "cc3m", urls)  # what was stored lying has not been turned since
    assert caplog.text.count("stored upright") == 2
    shutil.rmtree(folder)
    assert fetch(project, "cc3m", urls) == manifest
    assert caplog.text.count("stored upright") == 2 and rule.exists()


def test_pictures_that_changed_at_their_source_are_reported(web: Web, project: Params) -> None:
    manifest = fetch(project, "cc3m", Path("data/urls/cc3m.parquet"))
    (Path("images/cc3m") / "00002.tar").unlink()
    web.version = 1
    message = r"1 shards are not those that data/images/cc3m.json describes.*00002.*dvc repro --force fetch@cc3m"
    with pytest.raises(ManifestError, match=message):
        ensure_images(project, "cc3m", manifest)
    web.requests.clear()
    with pytest.raises(ManifestError, match=message):  # and it is not forgotten
        ensure_images(project, "cc3m", manifest)
    accepted = fetch(project, "cc3m", Path("data/urls/cc3m.parquet"))  # what the message says to do
    assert accepted != manifest and not web.requests
    ensure_images(project, "cc3m", accepted)


def test_healing_without_the_list_says_where_to_get_it(project: Params) -> None:
    manifest = fetch(project, "cc3m", Path("data/urls/cc3m.parquet"))
    (Path("images/cc3m") / "00002.tar").unlink()
    Path("data/urls/cc3m.parquet").unlink()
    with pytest.raises(ManifestError, match="dvc checkout data/urls/cc3m.parquet"):
        ensure_images(project, "cc3m", manifest)


def test_too_few_images_are_an_error_with_the_causes(project: Params) -> None:
    strict = project.model_copy(update={"fetch": project.fetch.model_copy(update={"minimum_yield": 0.9})})
    with pytest.raises(DataError, match=r"34 of 48 images came \(70.8%\), the least allowed is 90%.*'http_404': 3"):
        fetch(strict, "cc3m", Path("data/urls/cc3m.parquet"))


def test_captions_of_other_pictures_than_the_manifests_are_refused_by_the_index(
    web: Web, project: Params, ray: None
) -> None:
    urls = Path("data/urls/cc3m.parquet")
    write_json("data/images/cc3m.json", fetch(project, "cc3m", urls))
    captions.main(project, argparse.Namespace(corpus="cc3m"))
    index.check_manifest("cc3m")
    (Path("images/cc3m") / "00002.tar").unlink()
    web.version = 1  # as many pictures, but others, so each lies elsewhere in its tar
    manifest = fetch(project, "cc3m", urls)
    write_json("data/images/cc3m.json", manifest)
    wrong = r"1 shards are not those of data/images/cc3m.json, the first is 00002: .*run `dvc repro captions@cc3m`"
    with pytest.raises(ManifestError, match=wrong):
        index.check_manifest("cc3m")
    captions.main(project, argparse.Namespace(corpus="cc3m"))
    index.check_manifest("cc3m")
