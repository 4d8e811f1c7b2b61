"""What the stage `look` writes of files and folders that settings name: when it is another, and when it is not."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from caft.data.crawl import own
from caft.data.crawl.announced import announce
from caft.data.crawl.images import note_files
from caft.data.crawl.listing import begin, write_list
from caft.data.look import look, set_state
from caft.data.sets import Missing
from caft.params import Params, load_params
from caft.params.sets import BenchmarkParams
from caft.storage import images_folder
from pipelines.deps import GRAPHS
from tests.data import published
from tests.data.test_benchmarks import spec
from tests.data.test_odd_files import MORE, WRITERS, litter, load

PROJECT = Path(__file__).parents[2]
SEEN = Path("data/seen")
TEXT = "path,long_caption\n0.jpg,A field. A box.\n1.jpg,A lake. A tree.\n"
LONG_AGO = 1_600_000_000_000_000_000


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout, with a user's pictures and table."""
    here = tmp_path / "caft"
    (here / "photos").mkdir(parents=True)
    (here / "photos/captions.csv").write_text(TEXT)
    for number in range(2):
        (here / f"photos/{number}.jpg").write_bytes(bytes([number]) * 100)
    monkeypatch.chdir(here)
    monkeypatch.setenv("DVC_ROOT", str(here))
    monkeypatch.delenv("CAFT_STORAGE", raising=False)
    return here


def settings(**given: Any) -> Params:
    """The default settings with a corpus `mine`, and others on top."""
    mine = {"kind": "custom", "table": "photos/captions.csv", "expected_images": 2}
    values = [f"corpora={given.pop('corpora', ['mine'])}", f"corpus.mine={json.dumps(mine | given.pop('mine', {}))}"]
    values += [f"{key.replace('__', '.')}={json.dumps(value)}" for key, value in given.items()]
    return load_params(PROJECT / "params.yaml", values=values)


def seen(name: str = "mine.table", **given: Any) -> dict[str, Any]:
    """What a look writes of an input."""
    look(settings(**given), SEEN)
    found: dict[str, Any] = json.loads((SEEN / f"{name}.json").read_text())
    return found


def age(path: Path, nanoseconds: int = LONG_AGO) -> None:
    os.utime(path, ns=(nanoseconds, nanoseconds))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# ---- files


def test_a_table_is_its_name_and_content(place: Path) -> None:
    table = place / "photos/captions.csv"
    assert seen() == {"name": "captions.csv", "sha256": digest(TEXT)}
    age(table)
    assert seen() == {"name": "captions.csv", "sha256": digest(TEXT)}
    table.write_text(TEXT.replace("lake", "pond"))
    assert seen() == {"name": "captions.csv", "sha256": digest(TEXT.replace("lake", "pond"))}
    table.rename(place / "photos/other.csv")
    assert seen(mine={"table": "photos/other.csv"})["name"] == "other.csv"


def test_published_lists_count_as_tables_and_rendered_ones_do_not(place: Path) -> None:
    path = place / "list.csv"
    path.write_text(TEXT)
    assert seen("cc3m.table", corpora=["cc3m", "scenes"], corpus__cc3m__csv="list.csv")["sha256"] == digest(TEXT)
    scenes = (SEEN / "scenes.table.json").read_text()
    look(settings(corpora=["scenes"], corpus__scenes__images=8), SEEN)
    assert (SEEN / "scenes.table.json").read_text() == scenes


def test_what_is_the_same_is_not_written_again(place: Path) -> None:
    look(settings(), SEEN)
    before = {path: path.stat().st_ino for path in SEEN.iterdir()}
    (place / "photos/captions.csv").touch()
    look(settings(), SEEN)
    assert before == {path: path.stat().st_ino for path in SEEN.iterdir()}
    assert {path.name for path in before} == {
        "mine.table.json",
        "mine.images.json",
        "superpixels.json",
        "init.json",
        "sets.json",
        "unsupported.json",
    }


def test_a_file_of_known_size_time_and_inode_is_not_read_again(place: Path) -> None:
    table = place / "photos/captions.csv"
    age(table)
    first = seen()
    with table.open("r+") as file:  # the same inode
        file.write(TEXT.replace("lake", "pond"))
    age(table)
    assert seen() == first
    replaced = place / "photos/replaced.csv"
    replaced.write_text(TEXT.replace("lake", "pond"))
    age(replaced)
    replaced.rename(table)
    assert seen()["sha256"] == digest(TEXT.replace("lake", "pond"))


def test_the_time_of_a_file_that_was_just_written_is_not_trusted(place: Path) -> None:
    table = place / "photos/captions.csv"
    now = time.time_ns()
    age(table, now)
    first = seen()
    with table.open("r+") as file:
        file.write(TEXT.replace("lake", "pond"))
    age(table, now)
    assert seen() != first


def test_what_is_not_there_keeps_its_entry(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    table = place / "photos/captions.csv"
    first = seen()
    table.unlink()
    assert seen() == first
    assert caplog.messages == ["photos/captions.csv: No such file or directory; what was seen of it before counts"]
    (SEEN / "mine.table.json").unlink()
    assert seen() == {"missing": True}
    table.write_text(TEXT)
    assert seen() == first
    table.unlink()
    table.mkdir()
    assert seen() == {"missing": True}


def test_tables_of_unsupported_sentences_count_by_their_content(place: Path) -> None:
    assert seen("unsupported") == {"all": True}
    assert seen("unsupported", data__exclude_unsupported="flags") == {"missing": True}
    (place / "flags/mine").mkdir(parents=True)
    table = place / "flags/mine/00000.parquet"
    table.write_text("one")
    first = seen("unsupported", data__exclude_unsupported="flags")
    assert first == {"tables": {"mine/00000.parquet": digest("one")}}
    age(table)
    assert seen("unsupported", data__exclude_unsupported="flags") == first
    table.write_text("two")
    assert seen("unsupported", data__exclude_unsupported="flags") == {"tables": {"mine/00000.parquet": digest("two")}}
    table.unlink()
    assert seen("unsupported", data__exclude_unsupported="flags") == {"tables": {"mine/00000.parquet": digest("two")}}


def test_a_checkpoint_counts_by_its_content(place: Path) -> None:
    assert seen("superpixels") == {"trained": True}
    (place / "bsd.tar").write_bytes(b"weights")
    first = seen("superpixels", superpixels__checkpoint="bsd.tar")
    assert first == {"name": "bsd.tar", "sha256": digest("weights")}
    (place / "bsd.tar").write_bytes(b"Weights")
    assert seen("superpixels", superpixels__checkpoint="bsd.tar")["sha256"] == digest("Weights")
    assert seen("superpixels", superpixels__checkpoint="gone.tar")["sha256"] == digest("Weights")
    assert seen("superpixels") == {"trained": True}
    assert seen("superpixels", superpixels__checkpoint="gone.tar") == {"missing": True}


def test_an_experiments_copy_sees_the_files_of_the_main_checkout(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "bsd.tar").write_bytes(b"weights")
    look(settings(superpixels__checkpoint="bsd.tar"), SEEN)
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    look(settings(superpixels__checkpoint="bsd.tar"), SEEN)
    for path in (place / SEEN).iterdir():
        assert (SEEN / path.name).read_bytes() == path.read_bytes(), path


def test_without_room_for_its_notes_it_still_looks(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    age(place / "photos/captions.csv")
    (place / "scratch").write_text("in the way")
    assert seen()["sha256"] == digest(TEXT)
    assert "cannot be written" in caplog.text


# ---- pictures


@pytest.fixture
def read(place: Path) -> Path:
    """The images' folder after `fetch` has read both pictures, and looked for one that is not there."""
    folder = images_folder(settings(), "mine")
    fetched(folder)
    return folder


def fetched(folder: Path) -> None:
    """Notes the files as they are."""
    urls = [f"file:{number}.jpg" for number in range(3)]
    own.note_states(folder, own.look_at(urls, Path("photos").resolve()))


def test_own_pictures_are_announced_once_when_they_are_not_as_they_were_read(read: Path) -> None:
    found = [seen("mine.images")]
    assert found == [{"from": "files", "announced": None}]
    Path("photos/0.jpg").write_bytes(b"another picture")
    found += [seen("mine.images"), seen("mine.images")]
    assert found[2] == found[1] != found[0]
    fetched(read)
    assert seen("mine.images") == found[1]
    Path("photos/1.jpg").unlink()
    found.append(seen("mine.images"))
    fetched(read)
    Path("photos/2.jpg").write_bytes(b"where it belongs")
    found.append(seen("mine.images"))
    fetched(read)
    age(Path("photos/0.jpg"))  # whether it is another, fetch finds out
    found.append(seen("mine.images"))
    assert len({entry["announced"] for entry in found}) == 5


def test_a_change_of_which_a_part_was_read_is_not_announced_again(read: Path) -> None:
    """As by a fetch that was killed; or the other part belongs to a row that went, and is never read."""
    for number in range(2):
        Path(f"photos/{number}.jpg").write_bytes(b"another picture")
    first = seen("mine.images")
    before = own.read_states(read)
    own.note_states(read, before | own.look_at(["file:0.jpg"], Path("photos").resolve()))
    assert seen("mine.images") == first


def test_damaged_notes_of_own_files_stop_nothing(read: Path) -> None:
    Path("photos/0.jpg").write_bytes(b"another picture")
    first = seen("mine.images")
    [notes] = (read / "about").glob("files.*")
    notes.write_bytes(b"damaged")
    assert seen("mine.images") == first
    fetched(read)
    assert seen("mine.images") == first


def test_a_change_that_is_taken_back_and_made_again_is_announced_again(read: Path) -> None:
    picture, found = Path("photos/0.jpg"), set()
    for content in (b"a", b"b", b"a", b"b"):
        picture.write_bytes(content)
        age(picture, LONG_AGO + content[0])
        found.add(seen("mine.images")["announced"])
        fetched(read)
    assert len(found) == 4


def test_a_change_that_came_and_went_unread_is_announced_when_it_comes_again(read: Path) -> None:
    """As of a disk that is there at times: its pictures were not read as lost when they were seen so first."""
    picture, found = Path("photos/0.jpg"), []
    for away in (True, False, True):
        picture.rename("away.jpg") if away else Path("away.jpg").rename(picture)
        found.append(seen("mine.images")["announced"])
    assert found[0] == found[1] != found[2]


def test_a_change_that_was_read_before_anybody_looked_is_announced_and_one_that_was_seen_is_not_again(
    read: Path,
) -> None:
    """As by a stage that restores a lost shard."""
    first, found = seen("mine.images"), []
    for content in (b"another picture", b"one more picture"):
        Path("photos/0.jpg").write_bytes(content)
        if found:
            found.append(seen("mine.images"))
        begin(read, {"images_per_shard": 1})
        write_list(read, "SELECT 0 AS row_id, 'file:0.jpg' AS url", {}, 1, 1)
        note_files(read, 0, Path("photos").resolve(), ["file:0.jpg"])
        found.append(seen("mine.images"))
    assert first != found[0] != found[1] == found[2]


def test_a_crawl_is_announced_after_what_is_done_by_hand_and_without_its_folder_as_before(place: Path) -> None:
    def entry() -> dict[str, str]:
        look(settings(corpora=["cc3m"]), SEEN)
        content: dict[str, str] = json.loads((SEEN / "cc3m.images.json").read_text())
        return content

    folder = images_folder(settings(), "cc3m")
    found = [entry()]
    for _ in range(2):
        announce(folder)
        found.append(entry())
    assert found[0] == {"from": "addresses"} and found[0] != found[1] != found[2]
    shutil.rmtree(folder)
    assert entry() == found[2]


def test_checkouts_that_share_a_storage_root_agree(read: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look(settings(), tmp_path / "other")
    Path("photos/0.jpg").write_bytes(b"another picture")
    first = seen("mine.images")
    fetched(read)  # by the first of them
    look(settings(), tmp_path / "other")
    assert json.loads((tmp_path / "other/mine.images.json").read_text()) == first


def test_pictures_that_are_not_there_keep_their_entry(read: Path) -> None:
    Path("photos/0.jpg").write_bytes(b"another picture")
    first = seen("mine.images")
    fetched(read)
    for path in Path("photos").glob("*.jpg"):
        path.rename(path.with_suffix(".away"))
    assert seen("mine.images") == first
    read.rename(read.with_name("away"))  # after `dvc pull` there is no image at all
    assert seen("mine.images") == first


def test_packed_tars_count_by_name_size_and_time(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    packed = {"packed": "tars"}
    assert seen("mine.images", mine=packed) == {"missing": True}
    (place / "tars").mkdir()
    found = []
    for name, content in (("0.tar", b"a"), ("1.tar", b"a"), ("1.tar", b"ab"), ("1.tar", b"ba")):
        (place / "tars" / name).write_bytes(content)
        age(place / "tars" / name, LONG_AGO + len(found))
        found.append(seen("mine.images", mine=packed)["state"])
        assert seen("mine.images", mine=packed)["state"] == found[-1]
    assert len(set(found)) == 4
    (place / "tars/notes.txt").write_text("no tar")
    assert seen("mine.images", mine=packed)["state"] == found[-1]
    (place / "tars").rename(place / "away")
    assert seen("mine.images", mine=packed)["state"] == found[-1]
    assert caplog.messages == ["tars: holds no tar; what was seen of it before counts"]


# ---- evaluation sets


def urban(folder: str) -> dict[str, Any]:
    return {"benchmarks__urban1k__path": folder, "benchmarks__urban1k__pairs": None}


def test_a_set_outside_data_benchmarks_counts_and_one_that_dvc_watches_does_not(place: Path) -> None:
    elsewhere = place.parent / "sets/urban1k"
    WRITERS["urban1k"](elsewhere)
    WRITERS["urban1k"](place / "data/benchmarks/urban1k")
    assert seen("sets") == {}
    found = [seen("sets", **urban(str(elsewhere)))["urban1k"]]
    for path in (elsewhere / "image").iterdir():
        path.write_bytes(bytes(path.stat().st_size))  # of the same size
        found.append(seen("sets", **urban(str(elsewhere)))["urban1k"])
        assert seen("sets", **urban(str(elsewhere)))["urban1k"] == found[-1]
    assert len(set(found)) == len(found) > 2
    elsewhere.rename(place.parent / "away")
    assert seen("sets", **urban(str(elsewhere))) == {}  # is reported as not run, as others are


@pytest.mark.parametrize("link", ["data/benchmarks/urban1k", "data/benchmarks/urban1k/image"])
def test_what_lies_behind_a_link_in_data_benchmarks_counts(place: Path, link: str) -> None:
    """DVC sees neither the files behind a link to a folder, nor that they change."""
    WRITERS["urban1k"](place / "data/benchmarks/urban1k")
    (place / link).rename(place.parent / "far")
    (place / link).symlink_to(place.parent / "far")
    first = seen("sets")["urban1k"]
    assert seen("sets")["urban1k"] == first
    picture = next(path for path in (place / "data/benchmarks/urban1k/image").iterdir())
    picture.write_bytes(bytes(picture.stat().st_size))
    assert seen("sets")["urban1k"] != first


def test_a_copy_of_an_experiment_counts_sets_that_it_reads_from_the_main_checkout(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("urban1k", "scenes/random"):
        WRITERS["urban1k"](place / "data/benchmarks" / name)
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    given = {"corpora": ["scenes"]}  # which brings its sets into the copy
    first = seen("sets", **given)
    assert set(first) == {"urban1k"}
    (place / "data/benchmarks/urban1k/caption/1.txt").write_text("Another caption.")
    assert seen("sets", **given) != first


def test_links_in_a_circle_end(place: Path) -> None:
    folder = place.parent / "urban1k"
    WRITERS["urban1k"](folder)
    (folder / "again").symlink_to(folder)
    (folder / "itself").symlink_to(folder / "itself")
    first = seen("sets", **urban(str(folder)))["urban1k"]
    (folder / "again").unlink()
    assert seen("sets", **urban(str(folder)))["urban1k"] != first


def _iiw_beside_its_sources(folder: Path) -> None:
    WRITERS["iiw"](folder)
    for own_place, place in {"docci": "docci/images", "docci_aar": "docci/images_aar", "dci": "dci/photos"}.items():
        (folder.parent / place).parent.mkdir(exist_ok=True)
        (folder / own_place).rename(folder.parent / place)


# Sets whose pictures lie beside their folder.
BESIDE = {
    "iiw beside": _iiw_beside_its_sources,
    "refer beside": lambda folder: published.write_refer(folder, images="../images"),
    "refer of coco": lambda folder: published.write_refer(folder, images="../coco/images"),
}


@pytest.fixture(params=[*WRITERS, *BESIDE])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str, BenchmarkParams]:
    """Folder, layout and entry of a set."""
    layout = request.param.split()[0]
    folder = tmp_path / "here" / layout
    (WRITERS | BESIDE)[request.param](folder)
    return folder, layout, spec(folder, layout, **MORE.get(layout, {}))


_opened: set[Path] | None = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(arguments[0], str):
        _opened.add(Path(arguments[0]).resolve())


sys.addaudithook(_note)


@pytest.fixture
def opened() -> Iterator[set[Path]]:
    """Files that are opened while a test runs."""
    global _opened
    _opened = set()
    yield _opened
    _opened = None


def test_every_file_that_a_sets_reader_opens_counts(
    written: tuple[Path, str, BenchmarkParams], opened: set[Path], tmp_path: Path
) -> None:
    folder, layout, benchmark = written
    assert not isinstance(load(folder, layout), Missing)
    files = sorted(path for path in opened if path.is_relative_to(tmp_path))
    assert len(files) > 2
    first = set_state(benchmark)
    for path in files:
        before = path.stat().st_mtime_ns
        age(path)
        assert set_state(benchmark) != first, path
        age(path, before)
    assert set_state(benchmark) == first


def test_litter_in_a_set_does_not_count(written: tuple[Path, str, BenchmarkParams]) -> None:
    folder, _, benchmark = written
    first = set_state(benchmark)
    for place in [path for path in folder.parent.rglob("*") if path.is_dir()]:
        (place / "refs(unc).parquet").write_bytes(b"what the reader keeps")
    litter(folder.parent)
    assert set_state(benchmark) == first is not None


# ---- the graph


def test_it_starts_without_what_takes_long_to_import() -> None:
    code = "import sys, pipelines.look; print({'torch', 'ray', 'duckdb', 'pandas', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout == "set()\n", done.stderr


def test_whatever_reads_evaluation_sets_depends_on_those_that_dvc_does_not_watch() -> None:
    found = 0
    for graph in GRAPHS:
        for name, entry in yaml.safe_load((PROJECT / graph).read_text())["stages"].items():
            deps = entry.get("do", entry).get("deps", [])
            # Scaling renders a corpus of its own, whose sets lie in its folder.
            reads = any(path.startswith(("data/benchmarks", "scaling/data/benchmarks")) for path in deps)
            assert reads == ("data/seen/sets.json" in deps), (graph, name)
            found += reads
    assert found >= 8
