"""Nested subsets of the training images, for curves over the size of a corpus."""

import hashlib
from typing import Any

import numpy as np

from caft.data.training.batch import split_validation

# So that the order is another one than that of the images held out for validation.
_SALT = np.uint64(0x5CA11A6)


def nested(row_ids: np.ndarray, positions: np.ndarray, fraction: float) -> np.ndarray:
    """Returns the share of some images whose row ids have the smallest hashes: a smaller share lies inside a larger.

    Args:
        row_ids: Row of each image in its source, (images,).
        positions: The images to choose from, (n,).
        fraction: Above 0 and at most 1; of 1 all are returned as they are.

    Returns:
        Positions, in their order, (round(fraction n),), one at the least.
    """
    if fraction == 1.0:
        return positions
    count = max(1, round(fraction * len(positions)))
    order = np.argsort(_hashes(np.asarray(row_ids)[positions]), kind="stable")
    return positions[np.sort(order[:count])]


def describe(row_ids: np.ndarray, validation_images: int, fraction: float) -> dict[str, Any]:
    """Identifies the subset of a run: its fraction, and the number and digest of its images."""
    training, _ = split_validation(row_ids, validation_images)
    chosen = nested(row_ids, training, fraction)
    digest = hashlib.sha256(chosen.astype(np.int64).tobytes()).hexdigest()[:16]
    return {"fraction": fraction, "images": len(chosen), "digest": digest}


def _hashes(row_ids: np.ndarray) -> np.ndarray:
    """MurmurHash3's 64-bit finalizer of the salted ids; neighbours in number are far apart."""
    with np.errstate(over="ignore"):
        hashes = row_ids.astype(np.uint64) ^ _SALT
        hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
        return np.asarray(hashes ^ (hashes >> np.uint64(33)))
