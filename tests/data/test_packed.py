"""Packed tars give what a crawl gives for the same pictures, whatever their names, order and endings."""

import hashlib
import io
import json
import os
import random
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from webdataset import TarWriter

from caft.data.crawl.fetch import ensure_images, erase, fetch
from caft.data.crawl.manifest import Manifest
from caft.data.crawl.packed import Tar, link_packed
from caft.data.crawl.rows import counted_table
from caft.data.tables.cluster import ray_tasks
from caft.data.tables.recaption import join_captions
from caft.data.tables.schema import FIELDS
from caft.data.tables.sentence_table import write_sentences
from caft.data.training.index import build_index
from caft.data.training.reader import TrainingIndex
from caft.errors import DataError
from caft.params import Params
from caft.transforms import open_image
from tests.data.web import GOOD, Fetched, colour, picture, with_captions

pytestmark = pytest.mark.usefixtures("ray")


def indexed(folder: Path, urls: Path, images: Path, manifest: dict[str, object]) -> dict[str, bytes]:
    """Captions, and all of the index but its summary, which has fingerprints of the manifest."""
    join_captions(manifest, images, urls, folder / "captions" / "web")
    for path in sorted((folder / "captions" / "web").glob("0*.parquet")):
        (folder / "sentences" / "web").mkdir(parents=True, exist_ok=True)
        write_sentences(path, folder / "sentences" / "web" / path.name)
    corpora = [{"name": "web", "fingerprint": "", "manifest": ""}]
    build_index(folder / "index", corpora, "spacy", folder / "captions", folder / "sentences")
    tables = [path for path in (folder / "captions" / "web").glob("0*.parquet") if pq.read_metadata(path).num_rows]
    return {path.name: path.read_bytes() for path in [*tables, *(folder / "index").glob("*.npy")]}


def test_crawled_tars_taken_as_packed_ones_give_the_same_captions_and_index(fetched: Fetched, tmp_path: Path) -> None:
    packed = tmp_path / "mirror"
    packed.mkdir()
    for tar in fetched.folder.glob("*.tar"):
        shutil.copy(tar, packed / f"web-train-{tar.name}")
    before = {path.name: path.read_bytes() for path in packed.iterdir()}
    manifest = link_packed("web", fetched.urls, packed, tmp_path / "images", 1)
    assert (manifest.successes, manifest.rows) == (GOOD, fetched.manifest.rows)
    assert manifest.lost == {"not_packed": manifest.rows - GOOD}
    assert [shard.fingerprint for shard in manifest.shards[:-1]] == [s.fingerprint for s in fetched.manifest.shards]
    first = indexed(tmp_path / "crawl", fetched.urls, fetched.folder, fetched.manifest.as_json())
    second = indexed(tmp_path / "packed", fetched.urls, tmp_path / "images", manifest.as_json())
    assert first.keys() == second.keys() and len(first) == 4 + 6
    assert first == second
    assert {path.name: path.read_bytes() for path in packed.iterdir()} == before


@pytest.fixture
def mirror(tmp_path: Path) -> tuple[Path, Path]:
    """Two tars as other tools write them, keys in no order, and a table in another order; folder and table.

    Of thirty pictures with JSON, in PNG or JPEG, one is broken, two have a URL that came before, three one that is in
    no list; another has no JSON. Five rows of the table have no picture.
    """
    packed, rng = tmp_path / "mirror", random.Random(5)
    packed.mkdir()
    numbers = list(range(28))
    rng.shuffle(numbers)
    numbers += [28, 29]
    for part in range(2):
        with TarWriter(str(packed / f"part-{part}.tar")) as tar:
            for number in numbers[15 * part : 15 * part + 15]:
                content, url = picture(number), f"http://host/{number}.jpg?size=large"
                if number == 7:
                    content = content[:10]
                if number in (28, 29):
                    url = f"http://host/{number - 20}.jpg?size=large"
                ending = "png" if number % 2 else "jpg"
                note = {"url": url, "caption": "never read", "status": "success"}
                tar.write({"__key__": f"{number * 37 % 101}x{number}", ending: content, "json": note, "txt": "words"})
            tar.write({"__key__": f"bare{part}", "jpg": picture(1)})
    rows = [number for number in range(33) if number not in (25, 26, 27, 28, 29)]
    rows += [100, 101]
    rng.shuffle(rows)
    columns: dict[str, list[object]] = {
        "row_id": [3 * place for place in range(len(rows))],
        "url": [f"http://host/{number}.jpg?size=large" for number in rows],
        **{name: [f"{name} of {number}. It is so." for number in rows] for name in FIELDS},
    }
    pq.write_table(pa.table(columns), tmp_path / "urls.parquet")
    return packed, tmp_path / "urls.parquet"


def test_each_picture_of_a_mirror_has_the_captions_of_its_url(mirror: tuple[Path, Path], tmp_path: Path) -> None:
    packed, urls = mirror
    manifest = link_packed("web", urls, packed, tmp_path / "images", 1)
    assert (manifest.rows, manifest.successes) == (30, 24)
    assert manifest.lost == {"decode": 1, "not_packed": 5}
    assert json.loads((tmp_path / "images/about/fetched.json").read_text())["images_not_used"] == 2 + 3 + 2
    indexed(tmp_path / "out", urls, tmp_path / "images", manifest.as_json())
    (tmp_path / "root").mkdir()
    (tmp_path / "root/web").symlink_to(tmp_path / "images")
    index = TrainingIndex(tmp_path / "out/index", tmp_path / "root")
    seen = set()
    for i in range(len(index)):
        number = int(index.sub_caption_text(i, [(0, 0)]).removeprefix("raw of ").rstrip("."))
        corner = np.asarray(index.picture(i))[0, 0]
        assert np.abs(corner - np.array(colour(number))).max() < 12
        seen.add(number)
    assert seen == set(range(25)) - {7}
    shas = {
        row["download_sha256"]
        for path in (tmp_path / "out/captions/web").glob("0*")
        for row in pq.read_table(path).to_pylist()
    }
    assert shas == {hashlib.sha256(picture(number)).hexdigest() for number in seen}


def test_rows_in_another_order_give_the_same_pairs(mirror: tuple[Path, Path], tmp_path: Path) -> None:
    packed, urls = mirror
    table = pq.read_table(urls)
    pq.write_table(table.take(list(range(table.num_rows))[::-1]), tmp_path / "other.parquet")
    pairs = []
    for name, path in (("a", urls), ("b", tmp_path / "other.parquet")):
        manifest = link_packed("web", path, packed, tmp_path / name / "images", 1)
        join_captions(manifest.as_json(), tmp_path / name / "images", path, tmp_path / name / "captions")
        rows = [
            r for file in (tmp_path / name / "captions").glob("0*.parquet") for r in pq.read_table(file).to_pylist()
        ]
        pairs.append({(row["download_sha256"], *(row[field] for field in FIELDS)) for row in rows})
        assert len(pairs[-1]) == 24
    assert pairs[0] == pairs[1]


def test_a_shifted_join_is_caught(mirror: tuple[Path, Path], tmp_path: Path) -> None:
    packed, urls = mirror
    manifest = link_packed("web", urls, packed, tmp_path / "images", 1)
    path = counted_table(tmp_path / "images")
    table = pq.read_table(path)
    ids = table["row_id"].to_pylist()
    pq.write_table(table.set_column(0, "row_id", pa.array(ids[1:] + ids[:1], pa.int64())), path)
    with pytest.raises(DataError, match=r"\d+ images do not have the URL of their caption row; first is row"):
        join_captions(manifest.as_json(), tmp_path / "images", urls, tmp_path / "captions")


def test_a_packed_corpus_by_its_setting_is_looked_at_heals_and_refuses_to_be_mixed(
    project: Params, fetched: Fetched, tmp_path: Path
) -> None:
    packed = tmp_path / "mirror"
    packed.mkdir()
    for tar in fetched.folder.glob("*.tar"):
        shutil.copy(tar, packed)
    entry = project.corpus["cc3m"].model_copy(update={"packed": str(packed)})
    project = project.model_copy(update={"corpus": {**project.corpus, "cc3m": entry}})
    urls = Path("data/urls/cc3m.parquet")
    with pytest.raises(
        DataError, match=r"source was a crawl, is packed tars.*must not be mixed"
    ):  # the folder holds a crawl
        fetch(project, "cc3m", urls)
    shutil.rmtree("images/cc3m")
    manifest = fetch(project, "cc3m", urls)
    assert fetch(project, "cc3m", urls) == manifest
    Path("images/cc3m/00001.tar").unlink()
    Path("images/cc3m/00002.parquet").unlink()
    os.utime(packed / "00003.tar", ns=(5, 5))
    ensure_images(project, "cc3m", manifest)
    assert fetch(project, "cc3m", urls) == manifest
    os.truncate(packed / "00000.tar", 4000)
    with pytest.raises(DataError, match=r"00000\.tar: is no whole tar"):
        ensure_images(project, "cc3m", manifest)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, r"mirror: holds no .tar; set corpus.web.packed"),
        ({"a.tar": b"no tar"}, r"a\.tar: is no whole tar"),
        (
            {"a.tar": bytes(10240), "b.tar": bytes(1024)},
            r"mirror: no picture in its 2 tars \(endings: jpg, jpeg, .*\); set",
        ),
    ],
)
def test_unusable_mirrors_are_one_clear_error(
    fetched: Fetched, tmp_path: Path, content: dict[str, bytes], words: str
) -> None:
    (tmp_path / "mirror").mkdir()
    for name, data in content.items():
        (tmp_path / "mirror" / name).write_bytes(data)
    with pytest.raises(DataError, match=words):
        link_packed("web", fetched.urls, tmp_path / "mirror", tmp_path / "images", 1)


def test_pictures_without_urls_are_one_clear_error(fetched: Fetched, tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "JPEG")
    with TarWriter(str(tmp_path / "mirror" / "a.tar")) as tar:
        tar.write({"__key__": "1", "jpg": buffer.getvalue(), "txt": "words"})
    with pytest.raises(DataError, match="1 pictures, none with a JSON that holds its `url`"):
        link_packed("web", fetched.urls, tmp_path / "mirror", tmp_path / "images", 1)


def packed_by_hand(folder: Path, tars: dict[str, list[tuple[str, bytes | None]]]) -> None:
    """Writes tars of members in the given order; a member without content is a folder's own entry."""
    folder.mkdir()
    for name, members in tars.items():
        with tarfile.open(folder / name, "w") as tar:
            for member, content in members:
                info = tarfile.TarInfo(member)
                if content is None:
                    info.type = tarfile.DIRTYPE
                info.size = len(content or b"")
                tar.addfile(info, io.BytesIO(content or b""))


def note(number: int) -> bytes:
    return json.dumps({"url": f"http://host/{number}", "status": "success"}).encode()


def coloured(number: int, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), colour(number)).save(buffer, kind)
    return buffer.getvalue()


def linked(tmp_path: Path, rows: int) -> tuple[Manifest, dict[int, tuple[int, int, int]], dict[str, int]]:
    """Links the tars in `mirror`; the manifest, the pixel of each row that has a picture, and the counts beside it."""
    urls = pa.table({"row_id": list(range(rows)), "url": [f"http://host/{number}" for number in range(rows)]})
    pq.write_table(with_captions(urls), tmp_path / "urls.parquet")
    manifest = link_packed("web", tmp_path / "urls.parquet", tmp_path / "mirror", tmp_path / "images", 1)
    join_captions(manifest.as_json(), tmp_path / "images", tmp_path / "urls.parquet", tmp_path / "captions")
    pixels = {}
    for path in (tmp_path / "captions").glob("0*.parquet"):
        content = (tmp_path / "images" / f"{path.stem}.tar").read_bytes()
        for row in pq.read_table(path).to_pylist():
            image = open_image(content[row["offset"] : row["offset"] + row["size"]])
            assert image.size == (row["width"], row["height"])
            pixels[row["row_id"]] = image.getpixel((20, 15))
    return manifest, pixels, json.loads((tmp_path / "images/about/fetched.json").read_text())


def near(pixels: dict[int, tuple[int, int, int]], numbers: set[int]) -> bool:
    assert set(pixels) == numbers
    return all(np.abs(np.subtract(pixels[number], colour(number))).max() < 12 for number in numbers)


def test_keys_with_stops_and_every_ending_are_found(tmp_path: Path) -> None:
    kinds = ["JPEG", "GIF", "TIFF", "BMP", "AVIF", "PPM", "PNG"]
    names = ["v1.0.jpg", "a.b.c.GIF", "sub.dir/x.tiff", "v1.1.bmp", "2.avif", "ünder.ppm", "sub.dir/y.z.PNG"]
    members = []
    for number, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        members += [(name, coloured(number, kind)), (name.rpartition(".")[0] + ".json", note(number))]
    packed_by_hand(tmp_path / "mirror", {"a.tar": members})
    manifest, pixels, _ = linked(tmp_path, 8)
    assert (manifest.successes, manifest.lost) == (7, {"not_packed": 1})
    assert near(pixels, set(range(7)))


@pytest.mark.parametrize("mask_first", [True, False])
def test_of_two_files_with_one_key_the_first_ending_in_the_order_is_the_picture_and_others_are_counted(
    tmp_path: Path, mask_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    members: list[tuple[str, bytes | None]] = []
    for number, (kept, mask) in enumerate([("jpg", "png"), ("webp", "png"), ("jpeg", "tiff"), ("png", "pgm")]):
        kinds = {"jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP", "png": "PNG", "tiff": "TIFF", "pgm": "PPM"}
        pair = [
            (f"{number}.{kept}", coloured(number, kinds[kept])),
            (f"{number}.{mask}", coloured(29, kinds[mask])),
        ]
        members += [*(pair[::-1] if mask_first else pair), (f"{number}.json", note(number))]
    members.append(("4.seg.png", coloured(29, "PNG")))  # another key, and no JSON
    packed_by_hand(tmp_path / "mirror", {"a.tar": members})
    manifest, pixels, counts = linked(tmp_path, 4)
    assert (manifest.successes, manifest.lost) == (4, {})
    assert near(pixels, set(range(4)))
    assert (counts["beside_a_picture"], counts["images_not_used"]) == (4, 1)
    assert "4 files beside a picture of the same key" in caplog.text


def test_every_ending_that_can_be_opened_is_a_picture_in_a_tar_and_one_that_cannot_is_lost(tmp_path: Path) -> None:
    kinds = {
        "apng": "PNG",
        "avifs": "AVIF",
        "jpx": "JPEG2000",
        "j2c": "JPEG2000",
        "pbm": "PPM",
        "qoi": "QOI",
        "SGI": "SGI",
    }
    members: list[tuple[str, bytes | None]] = []
    for number, (ending, kind) in enumerate(kinds.items()):
        members += [(f"{number}.{ending}", coloured(number, kind)), (f"{number}.json", note(number))]
    members += [("7.jxl", b"\xff\x0a of a plug-in"), ("7.json", note(7))]
    members += [("8.dds", coloured(29, "DDS")), ("8.png", coloured(8, "PNG")), ("8.json", note(8))]
    members += [("9.svg", b"<svg/>"), ("9.txt", b"words"), ("9.json", note(9))]
    packed_by_hand(tmp_path / "mirror", {"a.tar": members})
    manifest, pixels, counts = linked(tmp_path, 10)
    assert (manifest.successes, manifest.lost) == (8, {"decode": 1, "not_packed": 1})
    assert near(pixels, {*range(7), 8})
    assert (counts["beside_a_picture"], counts["images_not_used"]) == (1, 0)


def test_tars_without_pictures_and_folders_own_entries_are_no_reason_to_refuse(tmp_path: Path) -> None:
    packed_by_hand(
        tmp_path / "mirror",
        {
            "a.tar": [
                ("folder", None),
                ("folder/1.jpg", coloured(1, "JPEG")),
                ("folder/1.json", note(1)),
                ("end", None),
            ],
            "b.tar": [],
            "c.tar": [("2.json", note(2)), ("3.json", note(3))],  # what failed, as img2dataset writes it
        },
    )
    manifest, pixels, _ = linked(tmp_path, 4)
    assert (manifest.successes, manifest.lost) == (1, {"not_packed": 3})
    assert near(pixels, {1})


def test_a_picture_that_is_cut_inside_its_tar_is_lost_when_the_tar_is_listed(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    noise.save(buffer, "JPEG")
    members = [("0.jpg", buffer.getvalue()[: len(buffer.getvalue()) // 2]), ("0.json", note(0))]
    members += [("1.jpg", coloured(1, "JPEG")), ("1.json", note(1))]
    packed_by_hand(tmp_path / "mirror", {"a.tar": members})
    manifest, pixels, _ = linked(tmp_path, 2)
    assert (manifest.successes, manifest.lost) == (1, {"decode": 1})
    assert near(pixels, {1})


def test_one_odd_json_or_name_costs_its_picture_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    odd = [b"{", b"[1]", b'{"url": 3}', b'{"url": "http://host/4\\ud800"}', b"[" * 100_000, b"\xff\xfe"]
    members: list[tuple[str, bytes | None]] = []
    for number, content in enumerate([note(0), json.dumps({"url": "http://host/1", "sha256": 5}).encode(), *odd]):
        members += [(f"{number}.jpg", coloured(number, "JPEG")), (f"{number}.json", content)]
    members.append(("\udcff.jpg", coloured(9, "JPEG")))  # a name that is no UTF-8
    packed_by_hand(tmp_path / "mirror", {"a.tar": members})
    manifest, pixels, counts = linked(tmp_path, 8)
    assert (manifest.successes, manifest.lost) == (2, {"not_packed": 6})
    assert near(pixels, {0, 1})
    assert (counts["broken_notes"], counts["images_not_used"]) == (4, 7)
    assert "4 JSON files of the tars are none" in caplog.text


def counted(folder: Path) -> list[tuple[int, str, str | None, str | None]]:
    rows = pq.read_table(counted_table(folder)).to_pylist()
    return [(row["row_id"], row["url"], row["cause"], row["download_sha256"]) for row in rows]


def link(tmp_path: Path, folder: str, rows: list[int]) -> Manifest:
    urls = pa.table({"row_id": range(len(rows)), "url": [f"http://host/{number}" for number in rows]})
    pq.write_table(with_captions(urls), tmp_path / "urls.parquet")
    return link_packed("web", tmp_path / "urls.parquet", tmp_path / "mirror", tmp_path / folder, 1)


def test_tars_and_rows_that_come_and_go_give_what_a_new_folder_gives_and_only_new_tars_are_read(tmp_path: Path) -> None:
    def members(*numbers: int) -> list[tuple[str, bytes | None]]:
        pairs = [((f"{n}.jpg", coloured(n, "JPEG")), (f"{n}.json", note(n))) for n in numbers]
        return [member for pair in pairs for member in pair]

    def same_as_new(rows: list[int]) -> Manifest:
        manifest = link(tmp_path, "images", rows)
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        assert link(tmp_path, "new", rows) == manifest
        assert counted(tmp_path / "images") == counted(tmp_path / "new")
        names = [{path.name for path in (tmp_path / folder).glob("[0-9]*")} for folder in ("images", "new")]
        assert names[0] == names[1]
        return manifest

    packed_by_hand(tmp_path / "mirror", {"b.tar": members(0, 1), "d.tar": members(2, 3)})
    assert same_as_new([0, 1, 2, 3, 4, 5, 6]).lost == {"not_packed": 3}
    listed = {path.name: path.stat().st_ino for path in (tmp_path / "images/about/packed").glob("*")}
    packed_by_hand(tmp_path / "more", {"a.tar": members(4), "c[1].tar": members(5)})
    for path in (tmp_path / "more").iterdir():
        path.rename(tmp_path / "mirror" / path.name)
    assert same_as_new([0, 1, 2, 3, 4, 5, 6]).lost == {"not_packed": 1}
    kept = {path.name: path.stat().st_ino for path in (tmp_path / "images/about/packed").glob("*")}
    listed.pop("joined.parquet")
    assert listed.items() <= kept.items() and len(kept) == 5  # tables of the tars that were there were not made again
    assert same_as_new([6, 0, 2, 3, 4, 5]).successes == 5  # a row less, and others at its place
    (tmp_path / "mirror/b.tar").unlink()
    assert same_as_new([6, 0, 2, 3, 4, 5]).lost == {"not_packed": 2}
    packed_by_hand(tmp_path / "last", {"d.tar": members(3, 0, 6)})
    (tmp_path / "last/d.tar").replace(tmp_path / "mirror/d.tar")
    assert same_as_new([6, 0, 2, 3, 4, 5]).lost == {"not_packed": 1}


def test_tables_of_tars_that_were_named_by_number_are_taken_over(tmp_path: Path) -> None:
    packed_by_hand(tmp_path / "mirror", {name: [("1.jpg", coloured(1, "JPEG")), ("1.json", note(1))] for name in "ab"})
    for name in "ab":
        (tmp_path / "mirror" / name).rename(tmp_path / "mirror" / f"{name}.tar")
    first = link(tmp_path, "images", [1])
    work = tmp_path / "images/about/packed"
    (work / "joined.parquet").unlink()
    names = [hashlib.sha256(f"{name}.tar".encode()).hexdigest()[:16] for name in "ab"]
    tables = {path: path.stat().st_ino for path in work.glob("*")}
    for path in tables:
        path.rename(work / f"0000{names.index(path.stem)}.parquet")
    assert link(tmp_path, "images", [1]) == first
    assert {path: path.stat().st_ino for path in tables} == tables


def test_pictures_in_tars_of_others_are_not_erased(project: Params, tmp_path: Path) -> None:
    entry = project.corpus["cc3m"].model_copy(update={"packed": str(tmp_path)})
    project = project.model_copy(update={"corpus": {**project.corpus, "cc3m": entry}})
    with pytest.raises(DataError, match="tars that others have written and that are only read here"):
        erase(project, "cc3m", Path("data/urls/cc3m.parquet"))


def two_pictures(folder: Path) -> None:
    members = [
        (name, content) for n in (0, 1) for name, content in ((f"{n}.jpg", coloured(n, "JPEG")), (f"{n}.json", note(n)))
    ]
    packed_by_hand(folder, {"a.tar": members})


def test_a_tar_that_was_only_copied_is_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_pictures(tmp_path / "mirror")
    manifest, pixels, _ = linked(tmp_path, 2)
    listed: list[Sequence[Tar]] = []  # tars whose pictures are decoded

    def listing(function: Callable[[Tar], int], tars: Sequence[Tar], description: str) -> list[int]:
        listed.append(tars)
        return ray_tasks(function, tars, description)

    monkeypatch.setattr("caft.data.crawl.packed.ray_tasks", listing)
    for time in ((1, 1), (2, 2)):
        os.utime(tmp_path / "mirror/a.tar", time)
        again, _, _ = linked(tmp_path, 2)
        assert again == manifest
    assert listed == [[], []]
    monkeypatch.setattr("caft.data.crawl.packed.file_digest", lambda path: pytest.fail("the tar was read"))
    linked(tmp_path, 2)  # the time of the copy was noted


def test_links_lead_to_the_copy_in_a_copied_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    monkeypatch.setenv("DVC_ROOT", str(checkout))
    two_pictures(checkout / "mirror")
    linked(checkout, 2)
    shutil.copytree(checkout, tmp_path / "copy", symlinks=True)
    assert (tmp_path / "copy/images/00000.tar").resolve() == (tmp_path / "copy/mirror/a.tar").resolve()
