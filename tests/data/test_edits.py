"""What a folder of image shards does after edits of its table and of own files: it gives what a new folder gives, and asks
for nothing twice."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from caft.data.crawl import erase as erasing
from caft.data.crawl import fetch as fetching
from caft.data.crawl import own
from caft.data.crawl.erase import erase_pictures
from caft.data.crawl.fetch import ensure_images, erase, fetch, fetch_images
from caft.data.crawl.images import note_files
from caft.data.crawl.manifest import Manifest, shard_files, verify
from caft.data.crawl.own import look_at, read_states
from caft.data.crawl.rows import COUNTED, counted_table
from caft.data.crawl.tars import members
from caft.digests import file_digest
from caft.errors import DataError, ManifestError
from caft.params import Params
from caft.storage import read_json, write_json
from caft.transforms import open_image
from tests.data.test_fetch import PROGRAM
from tests.data.web import SETTINGS, Web, with_captions
from tests.waiting import wait_until

Row = tuple[int, str, str | None, bytes | None]


def write_urls(path: Path, urls: list[str]) -> Path:
    pq.write_table(with_captions(pa.table({"row_id": range(len(urls)), "url": urls})), path)
    return path


def counted(folder: Path) -> list[Row]:
    """Row, address, cause and stored picture of each row, in the table's order."""
    table = pq.read_table(counted_table(folder))
    assert table.schema.equals(COUNTED)
    tars = {}
    found: list[Row] = []
    for row in table.to_pylist():
        name, content = row["shard"], None
        if row["cause"] is None:
            if name not in tars:
                content = shard_files(folder, name)[0].read_bytes()
                held = members(shard_files(folder, name)[0])
                tars[name] = {member.name: content[member.offset : member.offset + member.size] for member in held}
            content = tars[name][f"{row['key']}.jpg"]
            assert open_image(content).size == (row["width"], row["height"])
        found.append((row["row_id"], row["url"], row["cause"], content))
    return found


def asked(folder: Path, name: str) -> list[str]:
    """The addresses of a round."""
    listed: list[str] = pq.read_table(folder / name / "about/urls.parquet")["url"].to_pylist()
    return sorted(listed)


def photo(path: Path, number: int) -> None:
    pixels = np.full((40, 60, 3), (number * 7 % 256, number * 13 % 256, number * 29 % 256), np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


class Own:
    """A folder of own pictures, and images fetched from it."""

    def __init__(self, folder: Path) -> None:
        self.home, self.images, self.folder = folder / "home", folder / "images", folder
        self.home.mkdir()

    def fetch(self, names: list[str], images: str = "images") -> Manifest:
        urls = write_urls(self.folder / "urls.parquet", [f"file:{name}" for name in names])
        return fetch_images("own", urls, self.folder / images, SETTINGS, nullcontext(), self.home)

    def rounds(self) -> int:
        return len(list(self.images.glob("round-*")))


@pytest.mark.slow
def test_own_pictures_after_every_edit_are_those_of_a_new_folder_and_no_other_file_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = Own(tmp_path)
    names = [f"{number}.jpg" for number in range(14)]
    for number in range(13):
        photo(mine.home / names[number], number)  # 13.jpg is not there yet
    first = mine.fetch(names)
    assert (first.successes, first.lost, first.rounds) == (13, {"no_file": 1}, ())
    assert mine.fetch(names) == first

    del names[5]  # the rows after it become others
    os.utime(mine.home / "3.jpg", ns=(7, 7))  # touched
    manifest = mine.fetch(names)
    assert (manifest.rows, manifest.successes, mine.rounds()) == (13, 12, 0)
    assert [row[:2] for row in sorted(counted(mine.images))] == [
        (row, f"file:{name}") for row, name in enumerate(names)
    ]
    assert read_states(mine.images)["file:3.jpg"] == look_at(["file:3.jpg"], mine.home)["file:3.jpg"]

    photo(mine.home / "new.jpg", 77)
    names.insert(2, "new.jpg")
    assert mine.fetch(names).successes == 13 and asked(mine.images, "round-1") == ["file:new.jpg"]

    photo(mine.home / "8.jpg", 88)  # replaced
    (mine.home / "9.jpg").rename(mine.home / "mended.jpg")
    names[names.index("9.jpg")] = "mended.jpg"
    photo(mine.home / "13.jpg", 13)  # put where it belongs
    (mine.home / "1.jpg").unlink()  # a row whose file went
    (mine.home / "4.jpg").unlink()
    (mine.home / "4.jpg").mkdir()
    manifest = mine.fetch(names)
    changed = ["1.jpg", "13.jpg", "4.jpg", "8.jpg", "mended.jpg"]
    assert asked(mine.images, "round-2") == [f"file:{name}" for name in changed] and mine.rounds() == 2
    assert manifest.lost == {"no_file": 1, "not_a_file": 1} and manifest.rounds == (14, 1, 5)

    new = mine.fetch(names, "new")
    assert counted(mine.images) == counted(tmp_path / "new")
    assert (new.rows, new.successes, new.lost) == (manifest.rows, manifest.successes, manifest.lost)
    assert verify(manifest, mine.images) == {}

    mine.home.rename(tmp_path / "elsewhere")  # a disk that is not there loses nothing
    mine.home.mkdir()
    assert mine.fetch(names) == manifest and "none of the 14 files of the table is there" in caplog.text


@pytest.mark.verify  # quicker tests beside it cover the most
def test_pictures_of_another_folder_are_read_where_names_sizes_and_times_are_the_same(tmp_path: Path) -> None:
    own, names = Own(tmp_path), ["0.bmp", "1.bmp", "2.bmp"]

    def write(numbers: tuple[int, ...]) -> None:
        for name, number in zip(names, numbers, strict=False):
            photo(own.home / name, number)
            os.utime(own.home / name, ns=(7, 7))

    write((0, 1))
    own.fetch(names)
    own.home = tmp_path / "other"
    own.home.mkdir()
    assert own.fetch(names).lost == {"no_file": 1} and own.rounds() == 0  # a disk that is not there
    write((0, 5))
    manifest = own.fetch(names)
    assert asked(own.images, "round-1") == ["file:1.bmp"] and own.rounds() == 1
    new = own.fetch(names, "new")
    assert counted(own.images) == counted(tmp_path / "new") and new.lost == manifest.lost
    assert own.fetch(names) == manifest and own.rounds() == 1


@pytest.mark.verify  # quicker tests beside it cover the most
def test_a_part_notes_no_file_that_a_later_round_has_read(tmp_path: Path) -> None:
    own = Own(tmp_path)
    photo(own.home / "0.jpg", 0)
    own.fetch(["0.jpg"])
    photo(own.home / "0.jpg", 1)
    own.fetch(["0.jpg"])
    noted = read_states(own.images)
    photo(own.home / "0.jpg", 22)
    os.utime(own.home / "0.jpg", ns=(7, 7))
    note_files(own.images, 0, own.home, ["file:0.jpg"])  # of the first list, when its shard is lost
    assert read_states(own.images) == noted
    own.fetch(["0.jpg"])
    assert own.rounds() == 2


@pytest.mark.slow
def test_of_replaced_pictures_the_old_ones_are_erased_and_no_file_is_read_again(tmp_path: Path) -> None:
    mine, names = Own(tmp_path), [f"{number}.jpg" for number in range(14)]
    for number, name in enumerate(names):
        photo(mine.home / name, number)
    mine.fetch(names)
    before = {url: content for _, url, _, content in counted(mine.images)}
    photo(mine.home / "8.jpg", 88)
    manifest = mine.fetch(names)
    rows = counted(mine.images)
    assert erase_pictures("own", tmp_path / "urls.parquet", mine.images, 1) == 1
    assert not holders(mine.images, before["file:8.jpg"]) and holders(mine.images, before["file:7.jpg"])
    again = mine.fetch(names)
    assert counted(mine.images) == rows and mine.rounds() == 1
    assert (again.rows, again.successes, again.fingerprint) == (14, 14, manifest.fingerprint)
    assert again != manifest and verify(again, mine.images) == {}


def holders(folder: Path, content: bytes | None) -> list[Path]:
    """Files below a folder that hold some bytes."""
    assert content
    return [path for path in folder.rglob("*") if path.is_file() and content in path.read_bytes()]


@pytest.fixture
def host(web: Web, tmp_path: Path) -> "Host":
    return Host(web, tmp_path)


class Host:
    """Addresses of the server that misbehaves, and images crawled from it."""

    def __init__(self, web: Web, folder: Path) -> None:
        self.web, self.folder, self.images = web, folder, folder / "images"
        self.settings = SETTINGS.model_copy(update={"images_per_shard": 100, "second_pass": True, "threads": 16})

    def fetch(self, paths: list[str], images: str = "images", again: list[str] | None = None) -> Manifest:
        self.web.requests.clear()
        urls = write_urls(self.folder / "urls.parquet", [self.web.address + path for path in paths])
        return fetch_images("web", urls, self.folder / images, self.settings, nullcontext(), again=again)

    def counted(self, images: str = "images") -> list[Row]:
        return counted(self.folder / images)


def addresses(kinds: dict[str, int], first: int = 0) -> list[str]:
    return [f"/{kind}/{number}" for kind, count in kinds.items() for number in range(first, first + count)]


@pytest.mark.slow
def test_a_crawl_after_edits_asks_for_new_addresses_alone(host: Host) -> None:
    paths = addresses({"good": 340, "missing": 30, "busy": 6, "html": 20, "opt_out": 4})
    first = host.fetch(paths)
    assert first.rows == 400 and sum(host.web.requests.values()) == 406  # six are busy, and asked twice
    del paths[100:150:10]
    assert host.fetch(paths).successes == 335 and not host.web.requests
    new = addresses({"good": 3, "later": 2, "missing": 1, "error": 1}, 900)
    paths[200:200] = new
    paths[7] = "/good/777"  # mended
    manifest = host.fetch(paths)
    twice = {path: 2 for path in new if path.startswith(("/later/", "/error/"))}
    assert host.web.requests == Counter(dict.fromkeys([*new, "/good/777"], 1)) | Counter(twice)
    assert manifest.rounds == (400, 6, 8, 3) and manifest.rows == 402
    restored = paths.copy()
    restored.insert(100, "/good/100")  # a row that is there again was asked for before
    assert host.fetch(restored).successes == manifest.successes + 1 and not host.web.requests
    assert host.fetch(paths) == manifest and not host.web.requests
    host.web.restored = {"later"}  # which answers a new folder as it now answers the old
    new_one = host.fetch(paths, "new")
    assert host.counted() == host.counted("new")
    assert (new_one.rows, new_one.successes, new_one.lost) == (manifest.rows, manifest.successes, manifest.lost)


@pytest.mark.verify  # quicker tests beside it cover the most
def test_retries_after_an_addition_and_a_shard_that_is_lost(host: Host) -> None:
    paths = addresses({"good": 30, "missing": 5, "html": 5})
    host.settings = host.settings.model_copy(update={"images_per_shard": 20})
    host.fetch(paths)
    paths += addresses({"missing": 3, "good": 2}, 50)
    assert host.fetch(paths).lost == {"decode": 5, "http_404": 8}
    host.web.restored = {"missing"}
    assert host.fetch(paths, again=["http_404"]).lost == {"decode": 5}
    assert set(host.web.requests) == set(addresses({"missing": 5}) + addresses({"missing": 3}, 50))
    rows, manifest = host.counted(), host.fetch(paths)
    assert not host.web.requests
    lost = ("00001", "00003")  # of the first list, and of those tried again
    for name in lost:
        os.truncate(shard_files(host.images, name)[0], 1000)
    whole = {url for name in ("00000", "00002") for url in _urls(host.images, name)}
    once = whole - {url for name in lost for url in _urls(host.images, name)}
    healed = host.fetch(paths)
    assert host.counted() == rows and (healed.fingerprint, healed.lost) == (manifest.fingerprint, manifest.lost)
    assert not {host.web.address + path for path in host.web.requests} & once


@pytest.mark.slow
def test_a_round_that_was_killed_is_completed_as_it_was_begun(host: Host, tmp_path: Path) -> None:
    host.settings = host.settings.model_copy(update={"images_per_shard": 12, "threads": 2})
    paths = addresses({"good": 12})
    host.fetch(paths)
    paths += addresses({"good": 36}, 40)
    urls = write_urls(tmp_path / "urls.parquet", [host.web.address + path for path in paths])
    host.web.delay = 0.1
    arguments = [str(urls), str(host.images), json.dumps(host.settings.model_dump())]
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE)
    wait_until(lambda: list(host.images.glob("round-1/about/0*.json")), 90, process)
    process.kill()
    process.communicate()
    host.web.delay = 0.0
    done = {
        url for path in host.images.glob("round-1/about/0*.json") for url in _urls(host.images / "round-1", path.stem)
    }
    assert 12 <= len(done) < 36
    more = addresses({"good": 2}, 90)
    manifest = host.fetch(paths + more)  # edited once more meanwhile
    assert not {host.web.address + path for path in host.web.requests} & done
    assert manifest.rounds == (12, 36, 2) and manifest.successes == 50
    host.fetch(paths + more, "new")
    assert host.counted() == host.counted("new")


def _urls(folder: Path, name: str) -> list[str]:
    found: list[str] = pq.read_table(shard_files(folder, name)[1])["url"].to_pylist()
    return found


@pytest.mark.slow
def test_erased_pictures_are_in_no_file_and_no_address_is_asked_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = addresses({"good": 36, "missing": 12})
    host.settings = host.settings.model_copy(update={"images_per_shard": 12})
    host.fetch(paths)
    paths += addresses({"good": 3}, 38)
    host.fetch(paths)
    before = {url.removeprefix(host.web.address): content for _, url, _, content in host.counted()}
    gone = ["/good/7", "/good/20", "/good/39", "/missing/1"]
    paths = [path for path in paths if path not in gone]
    manifest = host.fetch(paths)
    rows, urls = host.counted(), host.folder / "urls.parquet"
    assert holders(host.images, before["/good/7"]) and len(holders(host.images, before["/good/39"])) == 2

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for function in ("settle", "_rewrite_list"):  # in the middle of a shard, and after all of them
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(erasing, function, killed)
            erase_pictures("web", urls, host.images, 1)
        if function == "settle":
            assert host.fetch(paths).successes == manifest.successes and not host.web.requests
    erase_pictures("web", urls, host.images, 1)
    assert erase_pictures("web", urls, host.images, 1) == 0
    for path in ("/good/7", "/good/20", "/good/39"):
        assert not holders(host.images, before[path])
    assert holders(host.images, before["/good/8"])
    tables = [pq.read_table(path)["url"].to_pylist() for path in host.images.rglob("*.parquet")]
    assert not {host.web.address + path for path in gone} & {url for table in tables for url in table}
    after = host.fetch(paths)
    assert not host.web.requests and host.counted() == rows
    assert after != manifest and (after.rows, after.fingerprint) == (manifest.rows, manifest.fingerprint)
    name = after.shards[0].name
    shard_files(host.images, name)[0].unlink()  # what cannot be fetched shard by shard any more is fetched all the same
    lost = {url.removeprefix(host.web.address) for url in _urls(host.images, name)}
    again = host.fetch(paths)
    assert host.counted() == rows and again.fingerprint != "" and set(host.web.requests) == lost
    assert host.fetch(paths) == again and not host.web.requests
    assert host.fetch([*paths, "/good/7"]).rows == manifest.rows + 1  # unless its row comes back
    assert set(host.web.requests) == {"/good/7"}
    assert erase_pictures("web", host.folder / "urls.parquet", host.images, 1) == 0


def test_an_incomplete_folder_is_not_erased(fetched, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(fetched.folder, tmp_path / "images")
    (tmp_path / "images/00002.tar").unlink()
    with pytest.raises(
        DataError, match=r"12 rows of .*were not asked for yet, or their shards are lost; run `dvc repro fetch@web`"
    ):
        erase_pictures("web", fetched.urls, tmp_path / "images", 1)


def test_a_shard_that_is_not_whole_and_in_which_no_row_counts_is_erased(fetched, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    images, urls = tmp_path / "images", tmp_path / "urls.parquet"
    shutil.copytree(fetched.folder, images)
    gone = set(_urls(images, "00002"))
    table = pq.read_table(fetched.urls)
    pq.write_table(table.filter(pa.array([url not in gone for url in table["url"].to_pylist()])), urls)
    (images / "about/00002.json").unlink()
    assert erase_pictures("web", urls, images, 1) == 0
    assert not list(images.glob("00002*")) and len(list(images.glob("*.tar"))) == 3
    manifest = fetch_images("web", urls, images, SETTINGS, nullcontext())
    assert (manifest.rows, [shard.name for shard in manifest.shards]) == (36, ["00000", "00001", "00003"])
    assert [shard.sha256 for shard in manifest.shards] == [fetched.manifest.shards[n].sha256 for n in (0, 1, 3)]


def test_states_of_own_files_are_of_those_that_can_be_read_and_only_other_content_is_a_change(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "images"
    (home / "folder.jpg").mkdir(parents=True)
    for number in range(4):
        photo(home / f"{number} ü.jpg", number)
    urls = [
        f"file:{quote(name)}" for name in ("0 ü.jpg", "1 ü.jpg", "2 ü.jpg", "3 ü.jpg", "folder.jpg", "none.jpg", "\0")
    ]
    states = look_at([*urls, "http://host/0.jpg"], home)
    files = [home / f"{number} ü.jpg" for number in range(4)]
    assert states == dict(
        zip(urls, [*((file.stat().st_size, file.stat().st_mtime_ns) for file in files), None, None, None], strict=True)
    )
    assert read_states(folder) == {}
    held = dict.fromkeys(urls) | {url: file_digest(file) for url, file in zip(urls, files, strict=False)}
    assert own.changed(folder, held, home) == []  # never noted, but as they were read
    assert read_states(folder) == states
    os.utime(files[0], ns=(5, 5))  # touched
    photo(files[1], 11)  # replaced
    files[2].unlink()
    photo(home / "none.jpg", 12)  # put where it belongs
    assert own.changed(folder, held, home) == [urls[1], urls[2], urls[5]]
    assert read_states(folder) == states | {urls[0]: (states[urls[0]][0], 5)}  # type: ignore[index]
    shutil.rmtree(home)  # a disk that is not there
    assert own.changed(folder, held, home) == []
    assert own.changed(tmp_path / "older", held, home) == []


@pytest.mark.verify  # half a minute; folders of that time become rare
def test_a_folder_of_before_rounds_were_recorded_goes_on(host: Host) -> None:
    paths = addresses({"good": 30, "busy": 3, "missing": 4})
    host.settings = host.settings.model_copy(update={"images_per_shard": 20})
    host.fetch(paths)
    host.web.restored = {"missing"}
    manifest = host.fetch(paths, again=["http_404"])
    rows = host.counted()
    about = host.images / "about"
    for older, name in (("again", "round-1"), ("again-1", "round-2")):
        (host.images / name).rename(host.images / older)
        listed = host.images / older / "about/urls.parquet"
        shutil.copy(listed, listed.with_name("asked.parquet"))
    for name in ("rounds.json", "rows.parquet"):
        (about / name).unlink()
    write_json(about / "again.json", {"second_pass": True, "asked": [["http_404"]]})
    found = host.fetch(paths)
    assert host.counted() == rows and not host.web.requests
    assert found == manifest
    write_json(about / "again.json", [["http_404"]])  # an older form
    (host.images / "again-1/about/urls.parquet").unlink()  # killed between its table and its list
    shutil.copytree(host.images, host.folder / "other")
    assert host.fetch(paths, "other") == manifest and not host.web.requests
    shutil.rmtree(host.images / "again-1")  # killed before the first row was asked again
    for file in shard_files(host.images, "00003"):
        file.unlink()
    host.fetch(paths)
    assert set(host.web.requests) == set(addresses({"missing": 4})) and host.counted() == rows
    assert host.fetch([*paths, "/good/99"]).successes == manifest.successes + 1 and set(host.web.requests) == {
        "/good/99"
    }


@pytest.mark.slow
def test_what_grew_in_rounds_is_not_restored_on_another_machine_and_says_so(web: Web, project: Params) -> None:
    urls = Path("data/urls/cc3m.parquet")
    single = fetch(project, "cc3m", urls)
    ensure_images(project, "cc3m", single)
    table = pq.read_table(urls)
    pq.write_table(table.slice(5), urls)
    manifest = fetch(project, "cc3m", urls)
    assert not web.requests and manifest["rounds"] == [48] and "rounds" not in single
    ensure_images(project, "cc3m", manifest)
    shutil.rmtree("images/cc3m")
    with pytest.raises(ManifestError, match=r"came in 1 rounds.*run `dvc repro --force fetch@cc3m`"):
        ensure_images(project, "cc3m", manifest)
    assert not web.requests
    fresh = fetch(project, "cc3m", urls)
    assert "rounds" not in fresh and fresh["successes"] == manifest["successes"]


@pytest.mark.slow
def test_every_lost_row_is_in_a_list_that_is_there_after_an_error_too(web: Web, project: Params) -> None:
    strict = project.model_copy(update={"fetch": project.fetch.model_copy(update={"minimum_yield": 0.9})})
    with pytest.raises(DataError, match=r"34 of 48 images came.*all are in data/images/cc3m.lost.csv"):
        fetch(strict, "cc3m", Path("data/urls/cc3m.parquet"))
    lines = Path("data/images/cc3m.lost.csv").read_text().splitlines()
    rows = sorted(pq.read_table("data/images/cc3m.parquet").to_pylist(), key=lambda row: row["row_id"])
    lost = [row for row in rows if row["cause"]]
    assert lines == ["row_id,url,cause", *(f"{row['row_id']},{row['url']},{row['cause']}" for row in lost)]
    assert len(lost) == 14 and len(rows) == 48


@pytest.mark.slow
def test_erase_by_its_door_gives_the_manifest_that_fetch_then_confirms(web: Web, project: Params) -> None:
    urls = Path("data/urls/cc3m.parquet")
    shutil.rmtree("images/cc3m")
    with pytest.raises(DataError, match="images/cc3m: holds no images that could be erased"):
        erase(project, "cc3m", urls)
    assert not Path("images/cc3m").exists() or not list(Path("images/cc3m").glob("*.tar"))
    fetch(project, "cc3m", urls)
    pq.write_table(pq.read_table(urls).slice(5), urls)
    before = fetch(project, "cc3m", urls)
    web.requests.clear()
    after = erase(project, "cc3m", urls)
    assert after != before and after["fingerprint"] == before["fingerprint"]
    assert fetch(project, "cc3m", urls) == after and not web.requests
    assert read_json("images/cc3m/about/source.json", "")["rows"] == 48


def test_where_rows_count_is_of_the_own_list_though_another_checkout_fetches_meanwhile(
    web: Web, project: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls, folder = Path("data/urls/cc3m.parquet"), Path("images/cc3m")
    complete = fetching.fetch_images

    def and_another(*arguments: Any, **named: Any) -> Manifest:
        manifest = complete(*arguments, **named)
        pq.write_table(pq.read_table(urls).slice(0, 9), "other.parquet")
        complete("cc3m", Path("other.parquet"), folder, SETTINGS, nullcontext())
        return manifest

    monkeypatch.setattr(fetching, "fetch_images", and_another)
    rows = fetch(project, "cc3m", urls)["rows"]
    assert pq.read_metadata("data/images/cc3m.parquet").num_rows == rows == pq.read_metadata(urls).num_rows
    assert pq.read_metadata(counted_table(folder)).num_rows == 9
