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


def mask_area(segmentation: Any, height: int, width: int) -> int:
    """Returns how many pixels the mask of one annotation has; arguments and errors are those of `decode_mask`.

    Faster than the mask itself: polygons are outlined and not filled.
    """
    from pycocotools import mask  # of the pipeline's packages, not of the core

    form = _checked(segmentation, height, width)
    if isinstance(form, np.ndarray):
        return int(form[1::2].sum())
    return int(mask.area(mask.merge(mask.frPyObjects(form, height, width))))


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
    from pycocotools import mask  # of the pipeline's packages, not of the core

    form = _checked(segmentation, height, width)
    if isinstance(form, np.ndarray):
        return np.repeat(np.arange(len(form)) % 2 == 1, form).reshape(width, height).T
    drawn: NDArray[np.uint8] = mask.decode(mask.frPyObjects(form, height, width))  # (height, width, polygons)
    return np.asarray(drawn.any(2))


def _checked(segmentation: Any, height: int, width: int) -> list[list[float]] | NDArray[np.int64]:
    """Polygons, or lengths of runs down the columns, outside and inside in turn, outside first."""
    if isinstance(segmentation, Mapping) and {"size", "counts"} <= set(segmentation):
        size, counts = segmentation["size"], segmentation["counts"]
        if not isinstance(size, Sequence) or list(size) != [height, width]:
            raise ValueError(f"run lengths for {str(size)[:60]}, the image is {[height, width]}")
        return _checked_runs(_decompress(counts) if isinstance(counts, str | bytes) else counts, height, width)
    if isinstance(segmentation, Sequence) and not isinstance(segmentation, str) and segmentation:
        return [_checked_polygon(polygon, height, width) for polygon in segmentation]
    raise ValueError(f"expected polygons or run lengths, found {str(segmentation)[:60]}")


def _checked_polygon(polygon: Any, height: int, width: int) -> list[float]:
    if not isinstance(polygon, Sequence) or isinstance(polygon, str) or len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"expected polygons of at least three points x, y; found {str(polygon)[:60]}")
    if not all(isinstance(value, int | float) for value in polygon):
        raise ValueError(f"expected numbers as points of a polygon; found {str(polygon)[:60]}")
    points = [float(value) for value in polygon]
    farthest = _FARTHEST * max(height, width)
    if not all(abs(value) <= farthest for value in points):  # NaN is not either
        raise ValueError(f"expected points within {farthest} pixels of the image's corner; found {str(polygon)[:60]}")
    return points


def _checked_runs(counts: Any, height: int, width: int) -> NDArray[np.int64]:
    # Numbers that can be added up without overflow.
    if not isinstance(counts, Sequence) or not all(isinstance(run, int) and abs(run) < 2**31 for run in counts):
        raise ValueError(f"expected whole numbers as run lengths; found {str(counts)[:60]}")
    runs = np.asarray(counts, np.int64)
    if runs.sum() != height * width or (runs < 0).any():
        raise ValueError(f"run lengths cover {runs.sum()} pixels, the image has {height * width}")
    return runs


def _decompress(text: str | bytes) -> list[int]:
    """COCO's compressed run lengths: six bits a character, and from the third on differences to the one before last."""
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
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
