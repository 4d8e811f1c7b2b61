"""How well superpixels follow objects, by masks that no training saw."""

import numpy as np
from numpy.typing import NDArray

from caft.transforms import nearest_pixels


def oracle_iou(labels: NDArray[np.integer], mask: NDArray[np.bool_]) -> float:
    """IoU of an object with the union of the superpixels that lie mostly inside it, in [0, 1].

    Args:
        labels: Superpixel of each pixel, (H, W).
        mask: True on the object, (H, W).
    """
    covered = covered_by(labels, mask)
    union = np.logical_or(covered, mask).sum()
    return float(np.logical_and(covered, mask).sum() / union) if union else 1.0


def covered_by(labels: NDArray[np.integer], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns the union of the superpixels that lie mostly inside a mask, (H, W)."""
    sizes = np.bincount(labels.ravel())
    inside = np.bincount(labels.ravel(), weights=mask.ravel(), minlength=len(sizes))
    chosen: NDArray[np.bool_] = (inside > 0.5 * sizes)[labels]
    return chosen


def boundary_recall(labels: NDArray[np.integer], truth: NDArray[np.integer], tolerance: int = 1) -> float:
    """Share of the truth's boundary pixels with a superpixel boundary within `tolerance` pixels, in [0, 1].

    Args:
        labels: Superpixel of each pixel, (H, W).
        truth: Object of each pixel, (H, W).
        tolerance: Chebyshev distance in pixels.
    """
    wanted, found = _boundary(truth), np.pad(_boundary(labels), tolerance)
    near = np.zeros_like(wanted)
    for down in range(2 * tolerance + 1):
        for right in range(2 * tolerance + 1):
            near |= found[down : down + wanted.shape[0], right : right + wanted.shape[1]]
    return float(near[wanted].mean()) if wanted.any() else 1.0


def achievable_accuracy(labels: NDArray[np.integer], truth: NDArray[np.integer]) -> float:
    """Share of pixels that are right when each superpixel takes its most frequent object (ASA), in [0, 1].

    Args:
        labels: Superpixel of each pixel, (H, W).
        truth: Object of each pixel, the background counted as one, (H, W).
    """
    objects = int(truth.max()) + 1
    counts = np.bincount(labels.ravel() * objects + truth.ravel(), minlength=(int(labels.max()) + 1) * objects)
    return float(counts.reshape(-1, objects).max(1).sum() / labels.size)


def thin_parts(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Returns the pixels of a mask that no square of `side` pixels inside it reaches: tips, arms, poles.

    Args:
        mask: True on the object, (H, W); it counts as going on beyond the image's edge.
        side: Of the square in pixels.
    """
    padded = np.pad(mask, side, mode="edge")
    fits = np.lib.stride_tricks.sliding_window_view(padded, (side, side)).all((2, 3))
    reached = np.zeros_like(padded)
    for down in range(side):
        for right in range(side):
            reached[down : down + fits.shape[0], right : right + fits.shape[1]] |= fits
    return mask & ~reached[side:-side, side:-side]


def squash_mask(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Returns a mask at size x size, by the nearest pixel."""
    return nearest_pixels(mask, size, size)


def _boundary(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels whose right or lower neighbour has another label."""
    boundary = np.zeros(labels.shape, bool)
    boundary[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    boundary[:-1] |= labels[:-1] != labels[1:]
    return boundary
