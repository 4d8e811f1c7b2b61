"""Features of images that have annotations; other features are of `caft.model.encoding`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from caft.errors import DataError
from caft.model.encoding import encode_squashed
from caft.network.caft import CAFT, ImageFeatures
from caft.transforms import open_image


def encode_pictures(
    model: CAFT, paths: Sequence[Path], sizes: Sequence[tuple[int, int]], batch: int
) -> Iterator[ImageFeatures]:
    """Encodes annotated images for maps and boxes, as `caft.model.encoding.encode_squashed`.

    Args:
        model: The model.
        paths: Image files.
        sizes: Height and width of each, as its annotations have them.
        batch: Images at once.

    Returns:
        Features of one image after the other, B = 1.

    Raises:
        DataError: An image is not of the size that its annotations are for.
    """
    opened = (open_annotated(path, size) for path, size in zip(paths, sizes, strict=True))
    return encode_squashed(model, opened, batch)


def open_annotated(path: Path, size: tuple[int, int]) -> Image.Image:
    """Opens an image that must be of the size (height, width) that its annotations have.

    Raises:
        DataError: It is not, or cannot be decoded.
    """
    (height, width), image = size, open_image(path)
    if image.size != (width, height):
        raise DataError(
            f"{path}: is {image.size[0]} x {image.size[1]} pixels, its annotations are for {width} x {height}; "
            "take the original image"
        )
    return image
