"""Pictures of every odd kind."""

import io
import os
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from caft.errors import DataError
from caft.pictures import formats
from caft.transforms import center_crop, open_image, random_resized_crop, squash


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_cmyk_becomes_rgb() -> None:
    image = open_image(_encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100))
    red, green, blue = image.getpixel((4, 4))
    assert image.mode == "RGB" and red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (32896, 128), (65535, 255)])
def test_sixteen_bits_are_scaled_not_clipped(value: int, expected: int) -> None:
    image = open_image(_encoded(Image.fromarray(np.full((4, 4), value, np.uint16)), "PNG"))
    assert image.mode == "RGB" and image.getpixel((0, 0)) == (expected,) * 3


def test_what_is_transparent_is_white() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    opened = open_image(_encoded(image, "PNG"))
    assert [opened.getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0), (255, 255, 255)]


def test_a_transparent_colour_of_an_rgb_picture_is_white() -> None:
    image = Image.new("RGB", (2, 1), (10, 20, 30))
    image.putpixel((1, 0), (0, 0, 0))
    opened = open_image(_encoded(image, "PNG", transparency=(0, 0, 0)))
    assert [opened.getpixel((x, 0)) for x in (0, 1)] == [(10, 20, 30), (255, 255, 255)]


def test_a_picture_on_its_side_is_turned() -> None:
    image = Image.new("RGB", (20, 10), (0, 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_image(_encoded(image, "JPEG", exif=exif)).size == (10, 20)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "LZW", "WEBP"])
def test_stored_pixels_are_left_as_they_are_stored_if_asked(orientation: int, kind: str) -> None:
    stored = np.random.default_rng(0).integers(256, size=(5, 9, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"LZW": {"compression": "tiff_lzw"}, "WEBP": {"lossless": True}}.get(kind, {})
    data = _encoded(Image.fromarray(stored), "TIFF" if kind == "LZW" else kind, exif=exif, **options)
    assert np.array_equal(np.asarray(open_image(data, upright=False)), stored)
    # By the standard: 2 to 4 are mirrored and upside down; 5 to 8 have rows and columns changed.
    turned = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1],
        5: stored.transpose(1, 0, 2), 6: np.rot90(stored, -1), 7: np.rot90(stored, 2).transpose(1, 0, 2),
        8: np.rot90(stored),
    }  # fmt: skip
    assert np.array_equal(np.asarray(open_image(data)), turned[orientation])


def test_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((200, 0, 0), (0, 200, 0))]
    data = _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert open_image(data).getpixel((0, 0)) == (200, 0, 0)


def test_one_pixel_fills_any_size() -> None:
    image = open_image(_encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG"))
    for pixels in (
        squash(image, 16),
        center_crop(image, 16),
        random_resized_crop(image, 16, (0.9, 1.0), np.random.default_rng(0)),
    ):
        assert pixels.shape == (3, 16, 16)
        assert pixels[:, 7, 7].tolist() == [1, 2, 3]


@pytest.mark.parametrize("cut", [0, 3, 100, -200])
def test_what_cannot_be_decoded_is_an_error(cut: int) -> None:
    noise = np.random.default_rng(0).integers(256, size=(64, 64, 3)).astype(np.uint8)
    with pytest.raises(DataError, match="cannot be decoded"):
        open_image(_encoded(Image.fromarray(noise), "JPEG")[:cut])


def test_a_picture_of_the_right_size_is_not_resampled() -> None:
    noise = np.random.default_rng(0).integers(256, size=(16, 16, 3)).astype(np.uint8)
    image = Image.fromarray(noise)
    assert np.array_equal(squash(image, 16).permute(1, 2, 0).numpy(), noise)
    assert np.array_equal(center_crop(image, 16).permute(1, 2, 0).numpy(), noise)


def test_center_crop_takes_the_middle() -> None:
    columns = np.zeros((10, 30, 3), np.uint8)
    columns[:, 10:20] = 255
    assert center_crop(Image.fromarray(columns), 10).eq(255).all()


def test_crops_have_the_area_and_shape_that_were_asked() -> None:
    """A ramp over a square: the crop's share of it is read from the values at its edges."""
    ramp = np.zeros((200, 200, 3), np.uint8)
    ramp[..., 0] = np.arange(200)[None]
    ramp[..., 1] = np.arange(200)[:, None]
    rng = np.random.default_rng(0)
    for _ in range(100):
        pixels = random_resized_crop(Image.fromarray(ramp), 200, (0.5, 0.6), rng).int()
        wide = int(pixels[0, 100, -1] - pixels[0, 100, 0]) + 1
        high = int(pixels[1, -1, 100] - pixels[1, 0, 100]) + 1
        assert 0.48 < wide * high / 200**2 < 0.62
        assert 0.73 < wide / high < 1.36


@pytest.mark.parametrize("size", [(341, 256), (256, 341), (40, 31), (900, 700), (224, 224), (64, 900)])
def test_crops_are_those_of_pillow(size: tuple[int, int]) -> None:
    """Few values differ by a level; taller crops by some more, as Pillow 13 resizes those in the other order."""
    rng = np.random.default_rng(4)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noise = rng.normal(0, 6, (size[1], size[0], 1))
    image = Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8))
    for seed in range(20):
        pixels = random_resized_crop(image, 96, (0.3, 1.0), np.random.default_rng(seed)).permute(1, 2, 0).numpy()
        crop = _crop_of_torchvision(image, np.random.default_rng(seed))
        resized = np.asarray(crop.resize((96, 96), Image.Resampling.BICUBIC))
        differ = np.abs(pixels.astype(int) - resized)
        assert pixels.dtype == np.uint8 and differ.max() <= (2 if crop.width >= crop.height else 6)
        assert differ.mean() < (0.01 if crop.width >= crop.height else 0.4)


def _crop_of_torchvision(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """By `RandomResizedCrop.get_params` with scale 0.3 to 1, its draws taken from numpy."""
    width, height = image.size
    for _ in range(10):
        area = height * width * rng.uniform(0.3, 1.0)
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.integers(width - w + 1), rng.integers(height - h + 1)
            return image.crop((left, top, left + w, top + h))
    w, h = width, height
    if width / height < 3 / 4:
        h = round(width / (3 / 4))
    elif width / height > 4 / 3:
        w = round(height * (4 / 3))
    left, top = (width - w) // 2, (height - h) // 2
    return image.crop((left, top, left + w, top + h))


def test_a_crop_of_the_right_size_is_not_resampled() -> None:
    noise = np.random.default_rng(0).integers(256, size=(16, 16, 3)).astype(np.uint8)
    for seed in range(50):  # only the whole picture has that area
        pixels = random_resized_crop(Image.fromarray(noise), 16, (0.999, 1.0), np.random.default_rng(seed))
        assert np.array_equal(pixels.permute(1, 2, 0).numpy(), noise)


def test_a_crop_is_planes_which_a_batch_takes_as_they_are() -> None:
    assert random_resized_crop(Image.new("RGB", (40, 30)), 16, (0.5, 1.0), np.random.default_rng(0)).is_contiguous()


# ---------------------------------------------------------------------- pixels of every mode


# One pixel as it lies in memory, and the RGB that it means, by the definition of the mode.
_PIXELS: dict[str, tuple[bytes, tuple[int, int, int]]] = {
    "1": (b"\x80", (255, 255, 255)),
    "L": (bytes([77]), (77, 77, 77)),
    "P": (bytes([1]), (10, 200, 30)),  # the palette's second colour
    "LA": (bytes([100, 51]), (224, 224, 224)),  # a fifth of 100, four fifths of 255
    "La": (bytes([20, 51]), (224, 224, 224)),  # the same, multiplied by its alpha already
    "PA": (bytes([1, 51]), (206, 244, 210)),
    "RGB": (bytes([1, 2, 3]), (1, 2, 3)),
    "RGBX": (bytes([1, 2, 3, 0]), (1, 2, 3)),
    "RGBA": (bytes([200, 100, 0, 51]), (244, 224, 204)),
    "RGBa": (bytes([40, 20, 0, 51]), (244, 224, 204)),
    "CMYK": (bytes([255, 0, 0, 0]), (0, 255, 255)),
    "YCbCr": (bytes([76, 85, 255]), (255, 0, 0)),
    "HSV": (bytes([85, 255, 255]), (0, 255, 0)),
    "LAB": (bytes([138, 81, 70]), (255, 0, 0)),  # L* 54.3, a* 80.8, b* 69.9 under D50
    "I;16": (struct.pack("<H", 0x8080), (128, 128, 128)),
    "I;16L": (struct.pack("<H", 0x8080), (128, 128, 128)),
    "I;16B": (struct.pack(">H", 0x8001), (127, 127, 127)),
    "I;16N": (struct.pack("=H", 0x8080), (128, 128, 128)),
    "I": (struct.pack("=i", 200), (200, 200, 200)),
    "F": (struct.pack("=f", 0.4), (102, 102, 102)),
}


def _pixel(mode: str) -> Image.Image:
    image = Image.frombytes(mode, (1, 1), _PIXELS[mode][0])
    if mode in ("P", "PA"):
        image.putpalette([0, 0, 0, 10, 200, 30])
    return image


def test_the_table_has_every_mode_that_pillow_knows() -> None:
    assert set(Image.MODES) <= set(_PIXELS)


@pytest.mark.parametrize("mode", _PIXELS)
def test_a_pixel_of_every_mode_becomes_the_rgb_that_it_means(mode: str) -> None:
    opened = open_image(_pixel(mode))
    assert opened.mode == "RGB"
    assert np.allclose(opened.getpixel((0, 0)), _PIXELS[mode][1], atol=6 if mode == "LAB" else 1)


@pytest.mark.parametrize("mode", ["F", "I"])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1], [0, 255]),
        ([0, 0], [0, 0]),
        ([0, 51, 255], [0, 51, 255]),
        ([3, 32], [3, 32]),
        ([0, 257 * 9, 65535], [0, 9, 255]),
    ],
)
def test_values_without_a_stated_range_are_taken_in_the_first_that_holds_them(
    mode: str, values: list[int], expected: list[int]
) -> None:
    array = np.array([values], np.float32 if mode == "F" else np.int32)
    opened = open_image(Image.fromarray(array))
    assert np.asarray(opened)[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([-1.0, 5.0], "-1 to 5, which tells no range: expected 0 to 1"),
        ([0.0, 1.02], "0 to 1.02, which"),  # by 0 to 255 it would be black
        ([0.0, 4095.0], "0 to 4095, which"),
        ([0.0, 1e6], r"0 to 1e\+06, which"),
        ([0.0, float("nan")], "1 of 2 values are not finite"),
        ([float("inf"), float("nan")], "2 of 2 values are not finite"),
    ],
)
def test_values_that_tell_no_range_are_refused(values: list[float], words: str, tmp_path: Path) -> None:
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "depth.tif")
    words = words if "finite" in words else f"its values go from {words}"
    with pytest.raises(DataError, match=f"depth.tif: {words}"):
        open_image(tmp_path / "depth.tif")
    if np.isfinite(values).all() and values[1] != 1.02:
        with pytest.raises(DataError, match=f"the given picture: {words}"):
            open_image(Image.fromarray(np.array([values], np.int32)))


def _tiff(data: bytes, width: int, bits: int, photometric: int, kind: int) -> bytes:
    """A little-endian TIFF of one row, one channel: written by hand, as Pillow writes no such."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1, 279: len(data), 339: kind}
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    padded = data + bytes(len(data) % 2)
    return struct.pack("<2sHI", b"II", 42, 8 + len(padded)) + padded + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    ("data", "width", "bits", "photometric", "kind", "expected"),
    [
        (struct.pack("<3H", 0, 0x8080, 65535), 3, 16, 1, 1, [0, 128, 255]),
        (struct.pack("<3H", 0, 0x8080, 65535), 3, 16, 0, 1, [255, 127, 0]),  # white is zero
        (struct.pack("<2f", 0, 1), 2, 32, 0, 3, [255, 0]),
        (struct.pack("<3f", 0, 0.2, 1), 3, 32, 1, 3, [0, 51, 255]),
        (bytes([0xFF, 0xF0, 0x00]), 2, 12, 1, 1, [255, 0]),
        (bytes([0x10, 0x00, 0x00]), 2, 12, 1, 1, [15, 0]),  # dark, and its range is stated
        (struct.pack("<2H", 0, 0), 2, 16, 1, 1, [0, 0]),
        (struct.pack("<2H", 0, 8192), 2, 16, 1, 1, [0, 31]),  # dark: 8192 * 255 / 65535 is 31.9
        (struct.pack("<3h", 0, 16384, 32767), 3, 16, 1, 2, [0, 127, 255]),  # with a sign
        (struct.pack("<3h", 0, 51, 255), 3, 16, 1, 2, [0, 51, 255]),
        (bytes([0, 255]), 2, 8, 0, 1, [255, 0]),
    ],
)
def test_a_tiff_of_other_than_eight_bits(
    data: bytes, width: int, bits: int, photometric: int, kind: int, expected: list[int]
) -> None:
    opened = open_image(_tiff(data, width, bits, photometric, kind))
    assert np.asarray(opened)[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("data", "bits", "kind", "words"),
    [
        (struct.pack("<2H", 0, 4080), 16, 1, "its largest value is 4080 of 65535.*scale its values.*or save it with 8"),
        (struct.pack("<2H", 0, 1023), 16, 1, "its largest value is 1023 of 65535"),
        (struct.pack("<2H", 8191, 8191), 16, 1, "its largest value is 8191 of 65535"),
        (struct.pack("<2h", 0, 4095), 16, 2, r"from 0 to 4095, which.*0 to 32767 \(at least 4096\)"),
        (struct.pack("<2h", -5, 32640), 16, 2, "from -5 to 32640, which tells no range"),
        (struct.pack("<2b", 0, 127), 8, 2, "8 bits with a sign.*save it as unsigned, 0 to 255"),
        (struct.pack("<2b", -128, 127), 8, 2, "8 bits with a sign"),
    ],
)
def test_a_tiff_whose_values_do_not_fill_what_they_are_stored_in_is_refused(
    data: bytes, bits: int, kind: int, words: str
) -> None:
    with pytest.raises(DataError, match=f"the given bytes: .*{words}"):
        open_image(_tiff(data, 2, bits, 1, kind))


@pytest.mark.parametrize("data", [_tiff(bytes(16), 2, 64, 1, 3), _tiff(bytes(4), 2, 16, 1, 3)])
def test_a_tiff_that_pillow_does_not_read_says_so(data: bytes) -> None:
    with pytest.raises(DataError, match="it is a TIFF of a kind that Pillow does not read; save it with 8 bits"):
        open_image(data)


def test_a_dark_png_of_sixteen_bits_stays_dark() -> None:
    opened = open_image(_encoded(Image.fromarray(np.array([[0, 4112]], np.uint16)), "PNG"))
    assert np.asarray(opened)[0, :, 0].tolist() == [0, 16]


def test_a_picture_of_sixteen_bits_from_no_file_is_refused_if_it_may_have_ten_or_twelve() -> None:
    with pytest.raises(DataError, match="the given picture: its largest value is 4095 of 65535"):
        open_image(Image.fromarray(np.array([[0, 4095]], np.uint16)))


def test_a_dark_pgm_of_sixteen_bits_stays_dark() -> None:
    opened = open_image(b"P5 2 1 65535\n" + struct.pack(">2H", 0, 255))
    assert [opened.getpixel((x, 0)) for x in (0, 1)] == [(0, 0, 0), (0, 0, 0)]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("shift", [0, 4])  # 12 bits left as they are, against the standard, and scaled up by it
def test_significant_bits_of_a_png_change_no_value(shift: int) -> None:
    """As in OpenCV: the chunk tells from what the values were scaled up, not that they still must be."""
    values = np.linspace(0, 4095, 64, dtype=np.uint16)[None] << shift
    plain = _encoded(Image.fromarray(values), "PNG")
    marked = plain[:33] + _chunk(b"sBIT", bytes([12])) + plain[33:]
    theirs = cv2.imdecode(np.frombuffer(marked, np.uint8), cv2.IMREAD_COLOR)
    found = np.asarray(open_image(marked), int)
    assert np.array_equal(found, np.asarray(open_image(plain))) and np.abs(found - theirs).max() <= 1
    assert theirs.max() == (15 if shift == 0 else 255)


@pytest.mark.parametrize(
    ("bits", "colour", "row", "marked", "expected"),
    [
        (1, 0, bytes([0b01000000]), struct.pack(">H", 0), [(255, 255, 255), (255, 255, 255)]),
        (2, 0, bytes([0b01100000]), struct.pack(">H", 2), [(85, 85, 85), (255, 255, 255)]),
        (4, 0, bytes([0x35]), struct.pack(">H", 5), [(51, 51, 51), (255, 255, 255)]),
        (8, 0, bytes([7, 9]), struct.pack(">H", 9), [(7, 7, 7), (255, 255, 255)]),
        (16, 0, struct.pack(">2H", 257, 9), struct.pack(">H", 9), [(1, 1, 1), (255, 255, 255)]),
        (8, 3, bytes([0, 1]), bytes([255, 0]), [(1, 2, 3), (255, 255, 255)]),
        (16, 2, struct.pack(">6H", 257, 514, 771, 0x900, 0, 0), struct.pack(">3H", 0x900, 0, 0),
         [(1, 2, 3), (255, 255, 255)]),
    ],
)  # fmt: skip
def test_what_a_png_marks_as_transparent_is_white_at_every_depth(
    bits: int, colour: int, row: bytes, marked: bytes, expected: list[tuple[int, int, int]]
) -> None:
    palette = _chunk(b"PLTE", bytes([1, 2, 3, 4, 5, 6])) if colour == 3 else b""
    data = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, bits, colour, 0, 0, 0)) + palette
    data += _chunk(b"tRNS", marked) + _chunk(b"IDAT", zlib.compress(b"\0" + row)) + _chunk(b"IEND", b"")
    opened = open_image(data)
    assert [opened.getpixel((x, 0)) for x in (0, 1)] == expected


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO", "AVIF"])
def test_the_first_of_several_frames_is_taken_and_the_file_closed(kind: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((200, 0, 0), (0, 200, 0))]
    frames[0].save(tmp_path / "frames", kind, save_all=True, append_images=frames[1:])
    before = len(os.listdir("/proc/self/fd"))
    opened = open_image(tmp_path / "frames")
    assert len(os.listdir("/proc/self/fd")) == before
    assert np.allclose(opened.getpixel((8, 8)), (200, 0, 0), atol=4)
    assert opened.crop((0, 0, 4, 4)).resize((8, 8)).size == (8, 8)


def test_a_picture_that_was_turned_or_left_is_not_turned_again() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = _encoded(Image.new("RGB", (20, 10)), "JPEG", exif=exif)
    assert open_image(open_image(data)).size == (10, 20)
    assert open_image(open_image(data, upright=False)).size == (20, 10)


# ---------------------------------------------------------------------- what is no picture


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"it is empty \(0 bytes\); fetch it again"),
        (b"<!DOCTYPE html><html>404</html>", "it is a web page or XML; download the picture itself"),
        (b"\xef\xbb\xbf <html>", "it is a web page or XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "it is a Git LFS pointer; run `git lfs pull`"),
        (b"a list of things\n", "it is text; give a picture file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is SVG, a drawing"),
        (b"%PDF-1.7\n", "it is a PDF document"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "it is HEIF|it is damaged"),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp42", "it seems to be a video"),
        (bytes(range(256)), "its content is of no format that is known here"),
        (b"\xff\xd8 no picture", "its content is of no format|it is damaged|it is cut off"),
    ],
)
def test_content_that_is_no_picture_says_what_it_is(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    for source, where in ((path, str(path)), (str(path), str(path)), (content, "the given bytes")):
        with pytest.raises(DataError, match=f"^{where}: cannot be decoded as a picture: ({words})"):
            open_image(source)


def test_a_path_that_leads_to_no_file_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to("gone.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe.jpg")
    (plug := socket.socket(socket.AF_UNIX)).bind("socket.jpg")
    for name, words in {
        "absent.jpg": rf"not found; check the name \(looked in {tmp_path}\)",
        "file/below.jpg": "not found; check the name",
        "": "'': not found",
        "folder.jpg": "is a folder; give a picture file",
        "dangling.jpg": "is a link to gone.jpg, which leads nowhere; mend or delete the link",
        "loop.jpg": "is a link to loop.jpg, which leads nowhere",
        "pipe.jpg": "is a pipe; save the picture to a file first",
        "socket.jpg": "is a socket; give a picture file",
        "/dev/zero": "is a device; give a picture file",
        "https://example.org/cat.jpg": "is an address; download the picture",
        "a\0b": "no file can have such a name",
        "x" * 5000: "no file can have such a name",
    }.items():
        with pytest.raises(DataError, match=words) as caught:
            open_image(name)
        assert "cannot be decoded" not in str(caught.value) and len(str(caught.value)) < 300
    plug.close()


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "private.jpg"
    path.write_bytes(b"x")
    path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # who may read everything
            os.seteuid(65534)
        with pytest.raises(DataError, match=r"private.jpg: may not be read \(Permission denied\); change its perm"):
            open_image(path)
    finally:
        os.seteuid(user)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file whose reading fails")
def test_a_file_whose_reading_fails_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "lost.jpg").symlink_to("/proc/self/mem")
    with pytest.raises(DataError, match=r"^\S+lost.jpg: cannot be read \(Input/output error\); check the disk"):
        open_image(tmp_path / "lost.jpg")


def test_a_picture_too_large_to_be_meant_names_the_limit_and_the_remedy() -> None:
    head = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0))
    with pytest.raises(DataError, match=r"it has more than 178,956,970 pixels.*raise PIL.Image.MAX_IMAGE_PIXELS"):
        open_image(head + _chunk(b"IDAT", zlib.compress(b"")))


@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "TGA", "ICO", "AVIF", "QOI", "DDS"]
)
def test_damaged_files_of_every_kind_are_a_picture_or_one_error(kind: str) -> None:
    rng = np.random.default_rng(0)
    whole = _encoded(Image.fromarray(rng.integers(256, size=(24, 24, 3)).astype(np.uint8)), kind)
    for _ in range(40):
        data = bytearray(whole[: rng.integers(1, len(whole))] if rng.random() < 0.5 else whole)
        for place in rng.integers(len(data), size=rng.integers(1, 8)):
            data[place] = rng.integers(256)
        try:
            assert open_image(bytes(data)).mode == "RGB"
        except DataError as error:
            assert "cannot be decoded as a picture: " in str(error)


def test_what_is_looked_for_is_what_pillow_decodes_here() -> None:
    known = formats.endings()
    assert {".jpg", ".jpeg", ".jfif", ".png", ".tif", ".webp", ".avif", ".bmp", ".ppm", ".jp2", ".tga"} <= known
    assert not known & {".pdf", ".eps", ".ps", ".mpg", ".mpeg", ".h5", ".grib", ".wmf", ".mp4", ".txt", ""}
    for ending in known:  # whatever Pillow can write of them is opened
        kind = Image.registered_extensions()[ending]
        if kind in Image.SAVE:
            mode = {"BLP": "P", "MSP": "1", "XBM": "1"}.get(kind, "RGB")
            assert open_image(_encoded(Image.new(mode, (32, 32)), kind)).getpixel((9, 9)) == (0, 0, 0)
