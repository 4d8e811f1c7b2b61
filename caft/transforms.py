"""Pictures to tensors, and maps to other sizes, with Pillow and torch only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from caft.pictures.reading import Source, read_rgb

if TYPE_CHECKING:
    from torch import Tensor

_Kind = TypeVar("_Kind", bound=np.generic)
# Long side over short side beyond which the ends of a picture are cut off before a central crop is resized.
_STRIP = 16


def open_image(source: Source, upright: bool = True) -> Image.Image:
    """Decodes a picture as it is meant to be seen: upright, RGB, transparent parts white, the first frame.

    How pixels of each kind become RGB is said at `caft.pictures.colours.to_rgb`. Formats are Pillow's, and those of its
    plug-ins pillow-heif and pillow-jxl-plugin where they are installed.

    Args:
        source: An encoded picture, its path, or a Pillow image.
        upright: Turn it as its EXIF orientation says; else it stays as its pixels are stored, which is how a tool that
            does not know of orientations saw it. (A HEIF file has no other pixels than upright ones.)

    Raises:
        DataError: There is no such file, it may not be read, it cannot be decoded, or its pixels have no clear range.
    """
    return read_rgb(source, upright)


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
    return _tensor(cropped(image, size))


def cropped(image: Image.Image, size: int) -> Image.Image:
    """As `center_crop`, a picture: for who runs an exported model without torch."""
    image = _without_ends(image)
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def random_resized_crop(image: Image.Image, size: int, scale: tuple[float, float], rng: np.random.Generator) -> Tensor:
    """A random part of the picture at size x size, bicubic, as torchvision's RandomResizedCrop.

    For training only: torch resizes it, several times as fast as Pillow. The filter is the same, but weights are rounded
    otherwise, which moves few values by a level, and in some tall pictures Pillow 13 begins with the other axis.

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
    import torch

    # A view; what comes of it are planes, which a batch takes as they are. Integers: no processor rounds otherwise.
    pixels = torch.from_numpy(np.array(image))[top : top + high, left : left + wide].permute(2, 0, 1)
    return torch.nn.functional.interpolate(pixels[None], size=(size, size), mode="bicubic", antialias=True)[0]


def _without_ends(image: Image.Image) -> Image.Image:
    """The middle of a strip so long that it would not fit the memory once its short side is enlarged."""
    width, height = image.size
    longest = _STRIP * min(image.size)
    left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
    return image.crop((left, top, width - left, height - top)) if left or top else image


def _tensor(image: Image.Image) -> Tensor:
    import torch  # who only opens pictures, as half of the stages, needs none

    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
