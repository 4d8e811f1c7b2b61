"""A larger crawl from a server that does everything servers do: counts by cause, and the second pass."""

import shutil
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caft.data.crawl.fetch import fetch_images
from caft.data.crawl.manifest import Manifest, shard_files, verify
from caft.data.crawl.rows import counted_table
from caft.data.tables.recaption import join_captions
from caft.errors import DataError
from tests.data.web import CRAWL, SETTINGS, Web, crawl_table, with_captions

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


@pytest.mark.slow
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


@pytest.mark.slow
def test_every_row_with_a_picture_is_in_one_shard_and_has_its_caption(crawl, ray: None, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder, manifest, answers = crawl
    join_captions(manifest.as_json(), folder / "images", folder / "urls.parquet", tmp_path / "captions")
    rows = [row for path in (tmp_path / "captions").glob("0*.parquet") for row in pq.read_table(path).to_pylist()]
    paths = [row["raw"].removeprefix("raw of ") for row in rows]
    good = {path for path, answer in answers.items() if answer is None and not path.startswith("/moved/")}
    assert len(paths) == len(good) == manifest.successes and set(paths) == good


@pytest.mark.slow
def test_both_passes_are_looked_at_and_not_repeated(crawl, web: Web) -> None:  # type: ignore[no-untyped-def]
    folder, manifest, _ = crawl
    settings = CRAWLING.model_copy(update={"images_per_shard": ROWS // 2})
    assert fetch_images("web", folder / "urls.parquet", folder / "images", settings, nullcontext()) == manifest
    # A lost link to a shard of the second pass comes back without a request.
    shard_files(folder / "images", "00002")[0].unlink()
    assert fetch_images("web", folder / "urls.parquet", folder / "images", settings, nullcontext()) == manifest
    assert not web.requests


@pytest.mark.slow
def test_what_failed_is_tried_again_when_asked_and_never_again_by_itself(web: Web, tmp_path: Path) -> None:
    kinds = {"good": 8, "later": 2, "missing": 3, "html": 2, "opt_out": 1, "error": 1}
    paths = [f"/{kind}/{number}" for kind, count in kinds.items() for number in range(count)]
    urls = pa.table({"row_id": range(0, 10 * len(paths), 10), "url": [web.address + path for path in paths]})
    pq.write_table(with_captions(urls), tmp_path / "urls.parquet")
    settings = SETTINGS.model_copy(update={"second_pass": True, "images_per_shard": 9})

    def fetched(again: list[str] | None = None) -> Manifest:  # by what `settings` is then
        web.requests.clear()
        return fetch_images("web", tmp_path / "urls.parquet", tmp_path / "images", settings, nullcontext(), None, again)

    def asked() -> Counter[str]:
        return Counter(path.split("/")[1] for path in web.requests.elements())

    first = fetched()
    assert first.lost == {"decode": 2, "http_404": 3, "http_500": 1, "opt_out": 1} and first.successes == 10
    assert asked() == {"good": 8, "later": 4, "missing": 3, "html": 2, "opt_out": 1, "error": 2}
    web.restored = {"missing"}
    assert fetched() == first and not asked()
    for wrong in ("http_403", "opt_out"):
        with pytest.raises(DataError, match=f"no row to try again for {wrong}; rows are lost for decode, http_404"):
            fetched([wrong])
    second = fetched(["http_404"])
    assert second.lost == {"decode": 2, "http_500": 1, "opt_out": 1} and second.successes == 13
    assert asked() == {"missing": 3} and second.rows == first.rows
    assert fetched() == second and not asked()  # the folder remembers
    settings = settings.model_copy(update={"second_pass": False})
    assert fetched() == second and not asked()  # what was asked twice is not asked again, by whatever setting
    settings = settings.model_copy(update={"second_pass": True})
    web.restored = {"missing", "html"}
    third = fetched([])
    assert third.lost == {"http_500": 1, "opt_out": 1} and asked() == {"html": 2, "error": 1}
    assert fetched([]).lost == third.lost and asked() == {"error": 1}  # what failed again, again
    rows = pq.read_table(counted_table(tmp_path / "images")).to_pylist()
    assert {row["row_id"]: row["url"] for row in rows} == dict(zip(*urls.to_pydict().values(), strict=True))
    assert sum(row["cause"] is None for row in rows) == 15
    fourth = fetched()
    for number in (2, 3, 4):  # what a round left is in the folder of all, too
        shutil.rmtree(tmp_path / f"images/round-{number}")
    assert fetched() == fourth and not asked()
