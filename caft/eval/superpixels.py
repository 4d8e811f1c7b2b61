"""How well superpixels follow objects, by masks that no training saw."""

import numpy as np
from numpy.typing import NDArray


def oracle_iou(labels: NDArray[np.integer], mask: NDArray[np.bool_]) -> float:
    """IoU of an object with the union of the superpixels that lie mostly inside it, in [0, 1].

    Args:
        labels: Superpixel of each pixel, (H, W).
        mask: True on the object, (H, W).
    """
    sizes = np.bincount(labels.ravel())
    inside = np.bincount(labels.ravel(), weights=mask.ravel(), minlength=len(sizes))
    chosen = inside > 0.5 * sizes
    covered = chosen[labels]
    union = np.logical_or(covered, mask).sum()
    return float(np.logical_and(covered, mask).sum() / union) if union else 1.0


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


def _boundary(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels whose right or lower neighbour has another label."""
    boundary = np.zeros(labels.shape, bool)
    boundary[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    boundary[:-1] |= labels[:-1] != labels[1:]
    return boundary
