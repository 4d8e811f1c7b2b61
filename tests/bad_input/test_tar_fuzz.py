"""A seeded fuzz of packed tars: each row has the planted picture or a counted loss, or the tar is refused in one line."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from PIL import Image

from caft.data.crawl.packed import Tar, link_packed, list_tar
from caft.data.tables.cluster import ray_started
from caft.data.tables.recaption import join_captions
from caft.data.tables.schema import FIELDS
from caft.errors import DataError
from caft.transforms import open_image
from tests.data.web import with_captions

TARS = 150
WIDE, HIGH = 24, 16
ADDRESSES = 900  # that samples draw from, so that some are there twice
UPRIGHT = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}
TURNED = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


@dataclass
class Picture:
    """A file, and what a viewer shows of it, (H, W, 3) in 0..255; None: nothing."""

    ending: str
    content: bytes
    look: np.ndarray | None


@dataclass
class Planted:
    """What a tar was made of.

    Attributes:
        samples: Address and picture of those that have both, in the tar's order; of a look that is None, it is a loss.
        pictures: How many keys have a picture, with an address or without.
        beside: Files that could be the picture of their key, too.
        odd: Links, devices and sparse files.
        twice: Keys with a name that is there twice.
        broken: JSONs that are none, of keys with a picture.
        more: Something follows its end.
    """

    samples: list[tuple[str, Picture]] = field(default_factory=list)
    pictures: int = 0
    beside: int = 0
    odd: int = 0
    twice: int = 0
    broken: int = 0
    more: int = 0


def scene(rng: np.random.Generator, grey: bool = False) -> np.ndarray:
    """Four fields of other colours: no turn or mirror image of it is itself."""
    fields = rng.integers(0, 256, (2, 2, 1 if grey else 3)).repeat(3 if grey else 1, axis=2)
    return fields.repeat(HIGH // 2, axis=0).repeat(WIDE // 2, axis=1).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def whole(rng: np.random.Generator) -> Picture:
    """A picture of some container, mode, depth and orientation."""
    look = scene(rng)
    image, other = Image.fromarray(look), Image.fromarray(scene(rng))
    grey = scene(rng, grey=True)
    best = {"quality": 95, "subsampling": 0}
    turn = int(rng.choice(list(TURNED)))
    exif = Image.Exif()
    exif[0x0112] = turn
    lying = image.transpose(TURNED[turn])
    clear = image.copy()
    clear.putalpha(Image.fromarray(np.repeat(np.uint8([[255, 0]]), WIDE // 2, 1).repeat(HIGH, 0)))
    left = look.copy()
    left[:, WIDE // 2 :] = 255
    black = np.where(grey > 127, 255, 0).astype(np.uint8)
    plain = {
        **{
            "jpg": ("JPEG", best),
            "jpeg": ("JPEG", best),
            "JPG": ("JPEG", best),
            "png": ("PNG", {}),
            "bmp": ("BMP", {}),
        },
        **{"webp": ("WEBP", {"lossless": True}), "tiff": ("TIFF", {}), "ppm": ("PPM", {}), "jp2": ("JPEG2000", {})},
        **{"tga": ("TGA", {}), "gif": ("GIF", {}), "apng": ("PNG", {}), "qoi": ("QOI", {}), "pcx": ("PCX", {})},
    }
    name = str(rng.choice([*plain]))
    shallow = Image.fromarray(grey[..., 0])
    moving = {"save_all": True, "append_images": [other]}
    choices: list[Callable[[], Picture]] = [
        *[lambda: Picture(name, encoded(image, plain[name][0], **plain[name][1]), look)] * 14,
        lambda: Picture("jpg", encoded(lying, "JPEG", exif=exif, **best), look),
        lambda: Picture("png", encoded(lying, "PNG", exif=exif), look),
        lambda: Picture("webp", encoded(lying, "WEBP", exif=exif, lossless=True), look),
        lambda: Picture("tif", encoded(lying, "TIFF", exif=exif), look),
        lambda: Picture("jpg", encoded(image.convert("CMYK"), "JPEG", **best), look),
        lambda: Picture("tif", encoded(image.convert("CMYK"), "TIFF"), look),
        lambda: Picture("png", encoded(clear, "PNG"), left),
        lambda: Picture("webp", encoded(clear, "WEBP", lossless=True), left),
        lambda: Picture("png", encoded(image.quantize(8), "PNG"), look),
        lambda: Picture("png", encoded(shallow, "PNG"), grey),
        lambda: Picture("png", encoded(Image.fromarray(black[..., 0]).convert("1"), "PNG"), black),
        lambda: Picture("png", encoded(Image.fromarray(grey[..., 0].astype(np.uint16) * 257), "PNG"), grey),
        lambda: Picture("tiff", encoded(Image.fromarray(grey[..., 0].astype(np.float32) / 255), "TIFF"), grey),
        lambda: Picture("gif", encoded(image, "GIF", **moving), look),
        lambda: Picture("webp", encoded(image, "WEBP", lossless=True, **moving), look),
        lambda: Picture("png", encoded(image, "PNG", **moving), look),
        lambda: Picture("jpg", encoded(image, "MPO", **moving, **best), look),
    ]
    return choices[rng.integers(len(choices))]()


def any_picture(rng: np.random.Generator) -> Picture:
    """A picture that is mostly whole."""
    if rng.random() > 0.12:
        return whole(rng)
    content = encoded(Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)), "JPEG")
    return Picture("jpg", [b"", content[: len(content) // 2], b"<html>gone</html>"][rng.integers(3)], None)


def a_note(rng: np.random.Generator, url: str) -> tuple[bytes | None, str | None, bool]:
    """A JSON or none, the address that it tells, and whether it is one."""
    plain = {"url": url, "status": "success", "sha256": None}
    if rng.random() < 0.75:
        return json.dumps(plain).encode(), url, True
    huge = plain | {"exif": "x" * 300_000, "more": [[[[{"url": "http://host/nested"}]]]] * 100}
    variants: list[tuple[bytes | None, str | None, bool]] = [
        (b"\xef\xbb\xbf" + json.dumps(plain).encode(), url, True),
        (json.dumps(plain).encode("utf-16"), url, True),
        (json.dumps(huge, indent=1).encode(), url, True),
        (json.dumps({"url": f"  {url}\n", "sha256": "n/a"}).encode(), url, True),
        (None, None, True),
        (json.dumps({"url": None, "key": 3}).encode(), None, True),
        (json.dumps({"image": plain}).encode(), None, True),
        (json.dumps([plain]).encode(), None, True),
        (b"3", None, True),
        (b"", None, False),
        (json.dumps(plain).encode()[:-1], None, False),
        (b"[" * 50_000, None, False),
        (b'{"url": "http://host/\\ud800"}', None, False),
        (b"\xff\xfe\xff", None, False),
    ]
    return variants[rng.integers(len(variants))]


def a_key(rng: np.random.Generator, number: int) -> str:
    """A name without ending, of which no two are alike."""
    forms = ["{:05d}"] * 6 + ["v1.{}", "a.b.c.{}", "./{}", "folder/sub/{}", "ünder/画像 {}", "{}" + "x" * 120]
    forms += ["d" * 90 + "/{}" + "y" * 60, "tab\t{}", "-{}", "{}'\"", "{}%20", "e\u0301{}", "🐱{}"]
    return str(rng.choice(forms)).format(number)


def a_tar(rng: np.random.Generator) -> tuple[bytes, Planted]:
    """A tar, and what it was made of."""
    planted, buffer = Planted(), io.BytesIO()
    formats = (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT)
    form = formats[rng.integers(3)]
    with tarfile.open(fileobj=buffer, mode="w", format=form, encoding="utf-8") as tar:

        def add(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **headers: str) -> bool:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.mtime = len(content), kind, 1_700_000_000.25
            info.mtime = int(info.mtime) if form == tarfile.USTAR_FORMAT else info.mtime
            info.linkname = "00001.jpg" if kind in (tarfile.LNKTYPE, tarfile.SYMTYPE) else ""
            info.pax_headers = headers
            try:
                tar.addfile(info, io.BytesIO(content))
            except ValueError:  # a name that USTAR cannot hold
                return False
            return True

        for number in range(int(rng.choice([0, 1, *range(2, 16)]))):
            key, url = a_key(rng, number), f"http://host/a b/{rng.integers(ADDRESSES)}?q=ü"
            picture, (note, told, is_json) = any_picture(rng), a_note(rng, url)
            if not add(f"{key}.{picture.ending}", picture.content):
                continue
            odd = rng.random()
            if odd < 0.04 and add(f"{key}.{picture.ending}", picture.content[::-1]):
                planted.twice += 1
                add(f"{key}.json", note or b"{}")
                continue
            if odd < 0.08 and note and add(f"{key}.json", json.dumps({"url": "http://host/another"}).encode()):
                planted.twice += 1
                add(f"{key}.json", note)
                continue
            if odd < 0.16 and picture.ending.lower() in ("jpg", "jpeg", "webp"):
                planted.beside += add(f"{key}.png", whole(rng).content)  # a mask, a depth map
            planted.pictures += 1
            if note is not None:
                add(f"{key}.{rng.choice(['json', 'JSON'])}", note)
                planted.broken += not is_json
            if rng.random() < 0.1:
                add(f"{key}.txt", b"words that nobody reads")
            if told:
                planted.samples.append((told, picture))
        for name, kind in (("l.jpg", tarfile.SYMTYPE), ("h.png", tarfile.LNKTYPE), ("p.jpg", tarfile.FIFOTYPE)):
            if rng.random() < 0.08:
                planted.odd += add(name, kind=kind)
        if rng.random() < 0.08:
            planted.odd += add("c.jpg", kind=tarfile.CHRTYPE)
        if rng.random() < 0.1:
            add("folder", kind=tarfile.DIRTYPE)
        if rng.random() < 0.1:
            add("._00001.jpg", b"\0\5\x16\7Mac OS X")
        if rng.random() < 0.1 and form == tarfile.PAX_FORMAT:  # as GNU tar writes a file with a hole
            holes = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s.jpg"}
            content = b"1\n512\n512\n".ljust(512, b"\0") + bytes(512)
            planted.odd += add("s.jpg", content, **holes, **{"GNU.sparse.realsize": "1024"})
    return buffer.getvalue(), planted


def spoiled(rng: np.random.Generator, content: bytes, planted: Planted) -> tuple[bytes, bool]:
    """A tar with something wrong about it, and whether it must be refused."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        heads = [info.offset for info in tar]
        end = tar.offset
    what = rng.integers(5)
    if what == 0:
        return gzip.compress(content), True
    if what == 1:
        at = int(rng.integers(len(content)))
        return content[:at], at < end + 1024
    if what == 2 and len(heads) > 1:  # a header after the first
        at = int(rng.choice(heads[1:])) + int(rng.integers(100))
        return content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :], True
    if what == 3:
        planted.more += 1
        return content + rng.bytes(700), False
    planted.more += 1
    return content + a_tar(rng)[0], False  # as `cat` joins them


@pytest.mark.slow
def test_any_tar_gives_the_planted_pictures_or_is_refused_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(150)
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    made, refused = [], 0
    for number in range(TARS):
        content, planted = a_tar(rng)
        must_be_refused = False
        if rng.random() < 0.25:
            content, must_be_refused = spoiled(rng, content, planted)
        path = mirror / f"{number:03d}.tar"
        path.write_bytes(content)
        nameless = planted.pictures > 0 and not planted.samples
        try:
            assert list_tar(Tar(path, tmp_path / "found.parquet")) == planted.pictures
        except DataError as error:
            assert must_be_refused or nameless, (number, str(error))
            assert "\n" not in str(error) and path.name in str(error), str(error)
            refused += 1
            path.unlink()
            continue
        assert not must_be_refused and not nameless, number
        made.append(planted)
    assert 10 < refused < TARS // 3

    best: dict[str, Picture] = {}
    for url, picture in [sample for planted in made for sample in planted.samples]:
        if url not in best or (best[url].look is None and picture.look is not None):
            best[url] = picture
    addresses = [f"http://host/a b/{number}?q=ü" for number in range(ADDRESSES)]
    urls = with_captions(pa.table({"row_id": [7 * row for row in range(ADDRESSES)], "url": addresses}))
    pq.write_table(urls, tmp_path / "urls.parquet")
    with nullcontext() if ray.is_initialized() else ray_started():  # by a fixture of other tests
        manifest = link_packed("web", tmp_path / "urls.parquet", mirror, tmp_path / "images", 1)
        join_captions(manifest.as_json(), tmp_path / "images", tmp_path / "urls.parquet", tmp_path / "captions")
    good = {url for url, picture in best.items() if picture.look is not None}
    lost = {"decode": len(best) - len(good), "not_packed": ADDRESSES - len(best)}
    assert (manifest.rows, manifest.successes, manifest.lost) == (ADDRESSES, len(good), lost)
    counts = json.loads((tmp_path / "images/about/fetched.json").read_text())
    assert counts == {
        "tars": len(made),
        "images_not_used": sum(planted.pictures for planted in made) - len(best),
        "beside_a_picture": sum(planted.beside for planted in made),
        "broken_notes": sum(planted.broken for planted in made),
        "links_in_tars": sum(planted.odd for planted in made),
        "repeated_names": sum(planted.twice for planted in made),
        "tars_with_more": sum(planted.more for planted in made),
    }
    assert min(counts.values()) > 3 and min(lost.values()) > 10 and len(good) > 300
    assert all(f"web: {counts[name]} " in caplog.text for name in counts if name not in ("tars", "images_not_used"))

    seen = set()
    for path in sorted((tmp_path / "captions").glob("0*.parquet")):
        content = (tmp_path / "images" / f"{path.stem}.tar").read_bytes()
        for row in pq.read_table(path).to_pylist():
            url = addresses[row["row_id"] // 7]
            assert [row[name] for name in FIELDS] == [f"{name} of row {row['row_id']}." for name in FIELDS]
            stored = content[row["offset"] : row["offset"] + row["size"]]
            assert stored == best[url].content
            shown, look = np.asarray(open_image(stored), int), best[url].look
            assert shown.shape == look.shape and np.abs(shown - look).mean() < 6, (url, best[url].ending)
            seen.add(url)
    assert seen == good
