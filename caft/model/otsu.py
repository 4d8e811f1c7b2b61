"""Otsu's threshold (1979): splits an attention map into an object's mask and the rest, without any training."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BINS = 256


def otsu_mask(values: ArrayLike) -> NDArray[np.bool_]:
    """Splits a map at Otsu's threshold, the one with the largest variance between the classes.

    The map is scaled to [0, 1] and put into 256 bins of floats; the foreground lies strictly above the centre of the
    best bin, as with scikit-image's `threshold_otsu`.

    Args:
        values: A map of any shape.

    Returns:
        True in the foreground, same shape. A constant map has none.

    Raises:
        ValueError: A value is not a finite number.
    """
    scaled = scaled_map(values)
    mask: NDArray[np.bool_] = scaled > _otsu(scaled)
    return mask


def otsu_threshold(values: ArrayLike) -> float:
    """Returns the threshold of `otsu_mask` in the map's own units; a constant map's value."""
    array = np.asarray(values, np.float64)
    low, high = float(array.min()), float(array.max())
    return low + _otsu(scaled_map(array)) * (high - low)


def _otsu(scaled: NDArray[np.float64]) -> float:
    """Otsu's threshold of a map with the range [0, 1], or of one of zeros."""
    if not scaled.any():
        return 0.0
    counts, edges = np.histogram(scaled, bins=_BINS, range=(0.0, 1.0))
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    sums = counts * centres
    # The first and the last bin hold the minimum and the maximum, so no class is empty.
    mean_below = np.cumsum(sums) / below
    mean_above = np.cumsum(sums[::-1])[::-1] / above
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(centres[np.argmax(between)])


def scaled_map(values: ArrayLike) -> NDArray[np.float64]:
    """Returns a map with its range moved to [0, 1], float64; zeros if it is constant.

    Raises:
        ValueError: A value is not a finite number, or there is none.
    """
    array = np.asarray(values, np.float64)
    if not array.size or not np.isfinite(array).all():
        raise ValueError(f"map of shape {array.shape}: expected finite numbers, at least one")
    low, high = array.min(), array.max()
    return (array - low) / (high - low) if high > low else np.zeros_like(array)
