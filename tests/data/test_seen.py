"""Whatever a picture's container, mode, depth or orientation: what is stored is what a viewer shows, or a counted loss."""

import io
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from caft.data.crawl.fetch import fetch_images
from caft.errors import DataError
from caft.transforms import open_image
from tests.data.test_fetch import images_of, rows_of
from tests.data.web import SETTINGS, with_captions

WIDE, HIGH = 90, 60
# An orientation and how Pillow's `transpose` brings such a picture upright; EXIF 2.32, tag 0x0112.
UPRIGHT = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BACK = {Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270}


def scene() -> np.ndarray:
    """Red to the right, green downwards, and a blue corner: no turn or mirror image of it is itself. float 0..1."""
    values = np.zeros((HIGH, WIDE, 3))
    values[..., 0] = np.linspace(0, 1, WIDE)
    values[..., 1] = np.linspace(0.2, 0.9, HIGH)[:, None]
    values[:20, :30, 2] = 0.8
    return values


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int, kind: str, **options: object) -> bytes:
    """The scene as a camera stores it that was held so."""
    upright = Image.fromarray((255 * scene()).astype(np.uint8))
    way = UPRIGHT[orientation]
    stored = upright if way is None else upright.transpose(BACK.get(way, way))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(stored, kind, exif=exif, **options)


def by_opencv(ending: str, values: np.ndarray) -> bytes:
    """Written by OpenCV, which knows colours as blue, green, red."""
    written, content = cv2.imencode(ending, values[..., ::-1] if values.ndim == 3 else values)
    assert written
    return bytes(content.tobytes())


def pictures() -> dict[str, tuple[bytes, np.ndarray]]:
    """Files by name, each with what a viewer shows of it, float (H, W, 3) in 0..255."""
    colour = scene()
    seen, grey = 255 * colour, np.repeat(255 * colour[..., :1], 3, axis=2)
    bytes8 = Image.fromarray(seen.astype(np.uint8))
    alpha = np.zeros((HIGH, WIDE)) + np.linspace(0, 1, HIGH)[:, None]
    over_white = seen * alpha[..., None] + 255 * (1 - alpha[..., None])
    rgba = bytes8.copy()
    rgba.putalpha(Image.fromarray((255 * alpha).astype(np.uint8)))
    la = Image.merge("LA", (bytes8.getchannel("R"), rgba.getchannel("A")))
    grey_over_white = grey * alpha[..., None] + 255 * (1 - alpha[..., None])
    wide = (65535 * colour).astype(np.uint16)
    first, second = bytes8, Image.new("RGB", bytes8.size, "black")
    hole = bytes8.quantize(64)
    through = np.asarray(hole) == np.asarray(hole)[0, 0]
    with_hole = np.where(through[..., None], 255.0, np.asarray(hole.convert("RGB"), float))
    high = {"quality": 95, "subsampling": 0}
    found = {f"turned{number}.jpg": (turned(number, "JPEG", **high), seen) for number in UPRIGHT}
    found |= {f"turned{number}.png": (turned(number, "PNG"), seen) for number in UPRIGHT}
    found |= {f"turned{number}.tiff": (turned(number, "TIFF"), seen) for number in (3, 6)}
    found |= {f"turned{number}.webp": (turned(number, "WEBP", lossless=True), seen) for number in (3, 6)}
    if features.check("avif"):
        found |= {"6.avif": (turned(6, "AVIF", quality=95, subsampling="4:4:4"), seen)}
    return found | {
        "plain.bmp": (encoded(bytes8, "BMP"), seen),
        "plain.ppm": (encoded(bytes8, "PPM"), seen),
        "plain.jp2": (encoded(bytes8, "JPEG2000"), seen),
        "grey.jpg": (encoded(bytes8.getchannel("R"), "JPEG", quality=95), grey),
        "cmyk.jpg": (encoded(bytes8.convert("CMYK"), "JPEG", **high), seen),
        "cmyk.tiff": (encoded(bytes8.convert("CMYK"), "TIFF"), seen),
        "rgba.png": (encoded(rgba, "PNG"), over_white),
        "rgba.webp": (encoded(rgba, "WEBP", lossless=True, exact=True), over_white),
        "la.png": (encoded(la, "PNG"), grey_over_white),
        "palette.png": (encoded(hole, "PNG"), np.asarray(hole.convert("RGB"), float)),
        "hole.png": (encoded(hole, "PNG", transparency=int(np.asarray(hole)[0, 0])), with_hole),
        "hole.gif": (encoded(hole, "GIF", transparency=int(np.asarray(hole)[0, 0])), with_hole),
        "bits.png": (encoded(bytes8.convert("1"), "PNG"), np.asarray(bytes8.convert("1").convert("RGB"), float)),
        "moving.gif": (
            encoded(hole, "GIF", save_all=True, append_images=[second.quantize(2)]),
            np.asarray(hole.convert("RGB"), float),
        ),
        "moving.webp": (encoded(first, "WEBP", save_all=True, append_images=[second], lossless=True), seen),
        "moving.png": (encoded(first, "PNG", save_all=True, append_images=[second]), seen),
        "noted.png": (encoded(bytes8, "PNG", pnginfo=PngInfo()), seen),
        "sixteen.png": (by_opencv(".png", wide), seen),
        "sixteen.tiff": (by_opencv(".tiff", wide), seen),
        "grey16.png": (by_opencv(".png", wide[..., 0]), grey),
        "grey16.tiff": (by_opencv(".tiff", wide[..., 0]), grey),
        "plain.hdr": (by_opencv(".hdr", colour.astype(np.float32)), seen),
        "cut.jpg": (encoded(bytes8, "JPEG", **high)[:1200], seen),
        "cut.png": (encoded(bytes8, "PNG")[:200], seen),
        "words.jpg": (b"<html>gone</html>", seen),
        "empty.jpg": (b"", seen),
    }


MODES = "1 L P RGB RGBA CMYK YCbCr LAB HSV I F LA PA La RGBa RGBX I;16 I;16B".split()


def everything_that_pillow_writes() -> dict[str, bytes]:
    """The scene in every mode and container."""
    found = {}
    Image.init()
    base = Image.fromarray((255 * scene()).astype(np.uint8))
    for mode in MODES:
        if mode.startswith("I;16"):
            image = Image.fromarray((65535 * scene()[..., 0]).astype("<u2" if mode == "I;16" else ">u2"))
        else:
            try:
                image = base.convert(mode)
            except ValueError:
                image = base.convert("LA" if mode in ("La", "PA") else "RGBA").convert(mode)
        for kind in sorted(Image.SAVE):
            try:
                found[f"{mode.replace(';', '')}.{kind.lower()}"] = encoded(image, kind)
            except (OSError, ValueError, KeyError, TypeError, SystemError, AttributeError):
                pass  # no such mode in this container, or a program that is not installed
    return found


LOST = {
    "plain.hdr": "other_kind",
    "cut.jpg": "decode",
    "cut.png": "decode",
    "words.jpg": "decode",
    "empty.jpg": "decode",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # some containers, in Pillow
def test_what_is_stored_is_what_a_viewer_shows_or_a_counted_loss(tmp_path: Path) -> None:
    known, home = pictures(), tmp_path / "home"
    files = {name: content for name, (content, _) in known.items()} | everything_that_pillow_writes()
    assert len(files) > 150
    home.mkdir()
    for name, content in files.items():
        (home / name).write_bytes(content)
    urls = pa.table({"row_id": list(range(len(files))), "url": [f"file:{name}" for name in files]})
    pq.write_table(with_captions(urls), tmp_path / "urls.parquet")
    settings = SETTINGS.model_copy(update={"image_size": 2048, "images_per_shard": 1000, "minimum_yield": 0.0})
    manifest = fetch_images("mine", tmp_path / "urls.parquet", tmp_path / "images", settings, nullcontext(), home)
    stored = {
        str(row["url"]).removeprefix("file:"): images_of(tmp_path / "images", name)[str(row["key"])]
        for name, rows in rows_of(tmp_path / "images").items()
        for row in rows
    }
    lost = Counter(LOST.values())
    for name, content in files.items():
        try:
            shown = np.asarray(open_image(content), float)
        except DataError:
            assert name not in stored, name
            lost["decode"] += name not in known
            continue
        if name in LOST:
            assert name not in stored, name
            continue
        pixels = np.asarray(stored[name].convert("RGB"), float)
        assert pixels.shape == shown.shape, name
        jpeg = encoded(Image.fromarray(shown.astype(np.uint8)), "JPEG", quality=95)  # of dithers, little is left
        error = np.abs(np.asarray(Image.open(io.BytesIO(jpeg)), float) - shown).mean()
        assert np.abs(pixels - shown).mean() < 1.2 * error + 0.5, (name, np.abs(pixels - shown).mean(), error)
        if name in known:
            assert np.abs(pixels - known[name][1]).mean() < 1.2 * error + 2, name  # its file has lost something, too
        assert not stored[name].getexif(), name
    assert manifest.lost == dict(lost)
    assert manifest.successes + sum(manifest.lost.values()) == len(files)
