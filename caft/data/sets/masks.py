"""Masks in COCO's annotation forms, polygons and run lengths, as pixels.

Polygons are drawn by the COCO API itself (pycocotools), so that scores are comparable to the bit. Its C code trusts
what it is given, so everything is checked here first.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# An annotation may leave the image a little; the API's memory grows with the length of the outline.
_FARTHEST = 4


def decode_mask(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """Returns the mask of one annotation's `segmentation`.

    Args:
        segmentation: A list of polygons [x0, y0, x1, y1, ...] in pixels, whose union is meant, or run lengths
            {"size": [height, width], "counts": list or compressed string}.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        True inside, (height, width).

    Raises:
        ValueError: It is neither, or does not fit the image.
    """
    if isinstance(segmentation, Mapping) and {"size", "counts"} <= set(segmentation):
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(f"run lengths for {list(segmentation['size'])}, the image is {[height, width]}")
        counts = segmentation["counts"]
        return _from_run_lengths(_decompress(counts) if isinstance(counts, str | bytes) else counts, height, width)
    if isinstance(segmentation, Sequence) and not isinstance(segmentation, str) and segmentation:
        return _from_polygons([_checked(polygon, height, width) for polygon in segmentation], height, width)
    raise ValueError(f"expected polygons or run lengths, found {str(segmentation)[:60]}")


def _from_polygons(polygons: list[list[float]], height: int, width: int) -> NDArray[np.bool_]:
    from pycocotools import mask  # of the pipeline's packages, not of the core

    drawn: NDArray[np.uint8] = mask.decode(mask.frPyObjects(polygons, height, width))  # (height, width, polygons)
    return np.asarray(drawn.any(2))


def _checked(polygon: Any, height: int, width: int) -> list[float]:
    if not isinstance(polygon, Sequence) or isinstance(polygon, str) or len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"expected polygons of at least three points x, y; found {str(polygon)[:60]}")
    points = [float(value) for value in polygon]
    farthest = _FARTHEST * max(height, width)
    if not all(abs(value) <= farthest for value in points):  # NaN is not either
        raise ValueError(f"expected points within {farthest} pixels of the image's corner; found {str(polygon)[:60]}")
    return points


def _from_run_lengths(counts: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """Runs down the columns, outside and inside in turn, outside first."""
    runs = np.asarray(counts, np.int64)
    if runs.sum() != height * width or (runs < 0).any():
        raise ValueError(f"run lengths cover {runs.sum()} pixels, the image has {height * width}")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T


def _decompress(text: str | bytes) -> list[int]:
    """COCO's compressed run lengths: six bits a character, and from the third on differences to the one before last."""
    data = text.encode("ascii") if isinstance(text, str) else text
    counts: list[int] = []
    value = shift = 0
    for byte in data:
        bits = byte - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    return counts
