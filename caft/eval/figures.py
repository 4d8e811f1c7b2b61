"""Pictures that show what a model sees: attention over images, outlines of masks, segments as flat colours."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Anchors of a colour scale from dark to bright, of even steps in lightness.
_HEAT = np.array(
    [(0, 0, 4), (59, 15, 112), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191)], np.float64
)
TRUTH, PREDICTION, LINE = (46, 204, 113), (255, 64, 129), (255, 255, 255)


def fit(image: Image.Image, side: int) -> Image.Image:
    """Returns the image scaled so that its longer side is `side` pixels."""
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def overlay(image: Image.Image, values: NDArray[np.floating]) -> Image.Image:
    """Returns the image in grey with a map over it, dark where the map is low and bright where it is high.

    Args:
        image: RGB.
        values: The map, scaled from its least to its largest value, of any size.
    """
    low, high = float(values.min()), float(values.max())
    scaled = (np.asarray(values, np.float64) - low) / (high - low) if high > low else np.zeros(values.shape)
    map_image = Image.fromarray((scaled * 255).round().astype(np.uint8)).resize(image.size, Image.Resampling.BILINEAR)
    heat = np.asarray(map_image, np.float64) / 255
    position = heat * (len(_HEAT) - 1)
    lower = np.minimum(position.astype(int), len(_HEAT) - 2)
    share = (position - lower)[..., None]
    colour = _HEAT[lower] * (1 - share) + _HEAT[lower + 1] * share
    grey = np.asarray(image.convert("L"), np.float64)[..., None]
    return Image.fromarray((0.4 * grey + 0.6 * colour).round().clip(0, 255).astype(np.uint8))


def outline(image: Image.Image, mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> Image.Image:
    """Returns the image with a line of two pixels around a mask of any size."""
    scaled = Image.fromarray(mask.astype(np.uint8) * 255).resize(image.size, Image.Resampling.NEAREST)
    inside = np.asarray(scaled) > 0
    thick = _grown(inside) & ~_shrunk(inside)
    pixels = np.array(image.convert("RGB"))
    pixels[thick] = colour
    return Image.fromarray(pixels)


def segmentation(image: Image.Image, labels: NDArray[np.integer]) -> Image.Image:
    """Returns each segment in its mean colour, with lines between them.

    Args:
        image: RGB.
        labels: Segment of each pixel of a map of any size; scaled to the image's.
    """
    pixels = np.asarray(image.convert("RGB"), np.float64)
    height, width = pixels.shape[:2]
    rows = np.arange(height) * labels.shape[0] // height
    columns = np.arange(width) * labels.shape[1] // width
    _, segments = np.unique(labels[rows[:, None], columns[None]], return_inverse=True)
    segments = segments.reshape(height, width)
    sizes = np.bincount(segments.ravel())
    means = np.stack([np.bincount(segments.ravel(), pixels[..., c].ravel()) / sizes for c in range(3)], axis=1)
    flat = means[segments].round().astype(np.uint8)
    edge = np.zeros((height, width), bool)
    edge[:, 1:] |= segments[:, 1:] != segments[:, :-1]
    edge[1:] |= segments[1:] != segments[:-1]
    flat[edge] = LINE
    return Image.fromarray(flat)


def png(image: Image.Image) -> bytes:
    """Returns the image as a PNG file; equal images give equal bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(mask, 1)
    return padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]


def _shrunk(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return ~_grown(~mask)
