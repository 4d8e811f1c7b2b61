"""Pictures of every odd kind."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from caft.errors import DataError
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
