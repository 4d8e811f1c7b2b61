"""Masks in COCO's annotation forms, polygons and run lengths, as pixels.

The rules are those of the COCO API (`maskApi.c`), so that scores are comparable to the bit.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The COCO API draws a polygon's boundary at five times the resolution.
_SCALE = 5.0


def decode_mask(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """Returns the mask of one annotation's `segmentation`.

    Args:
        segmentation: A list of polygons [x0, y0, x1, y1, ...] in pixels, whose union is meant, or run lengths
            {"size": [height, width], "counts": list or compressed string}.
        height: Of the image.
        width: Of the image.

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
        mask = np.zeros((height, width), bool)
        for polygon in segmentation:
            if not isinstance(polygon, Sequence) or len(polygon) < 6 or len(polygon) % 2:
                raise ValueError(f"expected polygons of at least three points x, y; found {str(polygon)[:60]}")
            mask |= _from_polygon(np.asarray(polygon, np.float64), height, width)
        return mask
    raise ValueError(f"expected polygons or run lengths, found {str(segmentation)[:60]}")


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


def _from_polygon(polygon: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    points = np.trunc(_SCALE * polygon.reshape(-1, 2) + 0.5).astype(np.int64)
    u, v = _boundary(np.concatenate([points, points[:1]]))
    # Where the boundary steps from one fine column to the next, the pixels below it change side.
    step = np.flatnonzero(u[1:] != u[:-1]) + 1
    before, after = step - 1, step
    x = (np.where(u[after] < u[before], u[after], u[after] - 1) + 0.5) / _SCALE - 0.5
    y = (np.minimum(v[after], v[before]) + 0.5) / _SCALE - 0.5
    on_column = (np.floor(x) == x) & (x >= 0) & (x <= width - 1)
    columns = x[on_column].astype(np.int64)
    rows = np.ceil(np.clip(y[on_column], 0, height)).astype(np.int64)
    changes = np.bincount(columns * height + rows, minlength=height * width + 1)[: height * width]
    return (np.cumsum(changes) % 2 == 1).reshape(width, height).T


def _boundary(points: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All points of the fine grid along a closed line, edge after edge, both ends included."""
    us, vs = [], []
    for (x0, y0), (x1, y1) in zip(points[:-1].tolist(), points[1:].tolist(), strict=True):
        dx, dy = abs(x1 - x0), abs(y1 - y0)
        flip = x0 > x1 if dx >= dy else y0 > y1
        if flip:  # drawn from the smaller coordinate, since rounding is not symmetric, but listed in the line's order
            x0, y0, x1, y1 = x1, y1, x0, y0
        steps = np.arange(max(dx, dy) + 1)[:: -1 if flip else 1]
        if dx >= dy:
            slope = (y1 - y0) / dx if dx else 0.0
            us.append(x0 + steps)
            vs.append(np.trunc(y0 + slope * steps + 0.5).astype(np.int64))
        else:
            us.append(np.trunc(x0 + (x1 - x0) / dy * steps + 0.5).astype(np.int64))
            vs.append(y0 + steps)
    return np.concatenate(us), np.concatenate(vs)
