"""A larger crawl from a server that does everything servers do: counts by cause, and the second pass."""

from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from caft.data.crawl.fetch import fetch_images
from caft.data.crawl.manifest import Manifest, shard_files, verify
from caft.data.tables.recaption import join_captions
from tests.data.web import CRAWL, SETTINGS, Web, crawl_table

pytestmark = pytest.mark.slow
ROWS = 500
CRAWLING = SETTINGS.model_copy(
    update={"processes": 2, "threads": 16, "images_per_shard": 250, "second_pass": True, "timeout": 3}
)


def crawled(web: Web, rows: int, folder: Path) -> Manifest:
    """Crawls from a server that has not been asked yet, and compares counts with what it did."""
    web.reset()
    pq.write_table(crawl_table(web, rows), folder / "urls.parquet")
    settings = CRAWLING.model_copy(update={"images_per_shard": rows // 2})
    manifest = fetch_images("web", folder / "urls.parquet", folder / "images", settings, nullcontext())
    answers = {path: answer for path, answer in web.answers.items() if not path.startswith("/moved/")}
    assert len(answers) == manifest.rows == rows
    done = Counter(answers.values())
    assert set(done) == {cause for _, cause in CRAWL.values()} | {"timeout"}
    assert manifest.successes == done.pop(None)
    assert manifest.lost == {cause: count for cause, count in sorted(done.items())}
    asked = {kind: set() for kind in CRAWL}
    for path, count in web.requests.items():
        asked.setdefault(path.split("/")[1], set()).add(count)
    twice = {"busy", "error", "later", "flaky", "short", "stall"}  # what may pass, and nothing else
    assert asked == {kind: {2} if kind in twice else {1} for kind in asked}
    return manifest


@pytest.fixture(scope="module")
def crawl(web_server: Web, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest, dict[str, str | None]]:
    folder = tmp_path_factory.mktemp("crawl")
    manifest = crawled(web_server, ROWS, folder)
    return folder, manifest, dict(web_server.answers)


def test_counts_are_what_the_server_did_and_only_what_may_pass_is_asked_twice(crawl) -> None:  # type: ignore[no-untyped-def]
    folder, manifest, _ = crawl
    assert [shard.name for shard in manifest.shards] == ["00000", "00001", "00002"]
    assert manifest.shards[2].successes and manifest.shards[2].lost.keys() == {
        "cut_short",
        "http_429",
        "http_500",
        "timeout",
    }
    assert not {"http_429", "http_500", "timeout"} & (manifest.shards[0].lost.keys() | manifest.shards[1].lost.keys())
    assert verify(manifest, folder / "images") == {}


def test_every_row_with_a_picture_is_in_one_shard_and_has_its_caption(crawl, ray: None, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder, manifest, answers = crawl
    join_captions(manifest.as_json(), folder / "images", folder / "urls.parquet", tmp_path / "captions")
    rows = [row for path in (tmp_path / "captions").glob("0*.parquet") for row in pq.read_table(path).to_pylist()]
    paths = [row["raw"].removeprefix("raw of ") for row in rows]
    good = {path for path, answer in answers.items() if answer is None and not path.startswith("/moved/")}
    assert len(paths) == len(good) == manifest.successes and set(paths) == good


def test_both_passes_are_looked_at_and_not_repeated(crawl, web: Web) -> None:  # type: ignore[no-untyped-def]
    folder, manifest, _ = crawl
    settings = CRAWLING.model_copy(update={"images_per_shard": ROWS // 2})
    assert fetch_images("web", folder / "urls.parquet", folder / "images", settings, nullcontext()) == manifest
    # A lost link to a shard of the second pass comes back without a request.
    shard_files(folder / "images", "00002")[0].unlink()
    assert fetch_images("web", folder / "urls.parquet", folder / "images", settings, nullcontext()) == manifest
    assert not web.requests
