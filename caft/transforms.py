"""Pictures to tensors, and maps to other sizes, with Pillow and torch only."""

import io
import math
import struct
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from caft.errors import DataError

_Kind = TypeVar("_Kind", bound=np.generic)
# How a picture that was turned as its orientation says is turned back.
_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip
# Long side over short side beyond which the ends of a picture are cut off before a central crop is resized.
_STRIP = 16


def open_image(source: bytes | Path | str | Image.Image, upright: bool = True) -> Image.Image:
    """Decodes a picture as it is meant to be seen: upright, RGB, transparent parts white, the first frame.

    Args:
        source: An encoded picture, its path, or a Pillow image.
        upright: Turn it as its EXIF orientation says; else it stays as its pixels are stored, which is how a tool that
            does not know of orientations saw it.

    Raises:
        DataError: It cannot be decoded.
    """
    try:
        image = source if isinstance(source, Image.Image) else Image.open(
            io.BytesIO(source) if isinstance(source, bytes) else source
        )  # fmt: skip
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        image.load()
        if not upright and orientation in _BACK and ExifTags.Base.Orientation not in image.getexif():
            image = image.transpose(_BACK[orientation])  # Pillow turns a TIFF while it loads it
        if image.mode == "RGB" and "transparency" not in image.info and not image.getexif():
            return image
        if upright:
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16 bit grey, which conversion would clip to white
            image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
        if "A" in image.getbands() or "transparency" in image.info:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, (255, 255, 255, 255))
            image = Image.alpha_composite(white, image)
        return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        where = "the given bytes" if isinstance(source, bytes) else str(source)
        raise DataError(f"{where}: cannot be decoded as a picture ({error})") from error


def squash(image: Image.Image, size: int) -> Tensor:
    """The whole picture at size x size, bicubic, whatever its shape: uint8 (3, S, S)."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return _tensor(image)


def nearest_pixels(values: NDArray[_Kind], height: int, width: int) -> NDArray[_Kind]:
    """A mask or label map at another size, each pixel from the nearest one, (height, width)."""
    rows = np.arange(height) * values.shape[0] // height
    columns = np.arange(width) * values.shape[1] // width
    return values[rows[:, None], columns[None]]


def center_crop(image: Image.Image, size: int) -> Tensor:
    """The middle of the picture after its short side was brought to `size`, bicubic: uint8 (3, S, S)."""
    image = _without_ends(image)
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return _tensor(image.crop((left, top, left + size, top + size)))


def random_resized_crop(image: Image.Image, size: int, scale: tuple[float, float], rng: np.random.Generator) -> Tensor:
    """A random part of the picture at size x size, bicubic, as torchvision's RandomResizedCrop.

    Args:
        image: RGB.
        size: S.
        scale: Least and most share of the picture's area; the aspect ratio lies between 3/4 and 4/3.
        rng: Source of the draws.

    Returns:
        uint8 (3, S, S).
    """
    width, height = image.size
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            left, top = int(rng.integers(width - wide + 1)), int(rng.integers(height - high + 1))
            break
    else:
        wide, high = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
        left, top = (width - wide) // 2, (height - high) // 2
    return squash(image.crop((left, top, left + wide, top + high)), size)


def _without_ends(image: Image.Image) -> Image.Image:
    """The middle of a strip so long that it would not fit the memory once its short side is enlarged."""
    width, height = image.size
    longest = _STRIP * min(image.size)
    left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
    return image.crop((left, top, width - left, height - top)) if left or top else image


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
