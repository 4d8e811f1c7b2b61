"""Which images of the index a run trains on.

Some are held out for validation, those that look like an evaluation set's are left out, and for curves over the size of a
corpus a nested share is taken of the rest.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from caft.errors import DataError

# So that the order is another one than that of the images held out for validation.
_SALT = np.uint64(0x5CA11A6)


def split_validation(
    row_ids: np.ndarray, count: int, repeats: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Positions for training and for validation; the `count` smallest hashes of row ids are held out.

    A held-out image stays held out when rows are added after it only by chance of its hash, never by its position. A
    picture that is there more than once has the smallest hash of its rows, and is held out with all of them or, if they are
    more than are still to be held out, trained on.

    Args:
        row_ids: Row of each image in its source, (images,).
        count: Images to hold out; at most a quarter of all.
        repeats: Positions of images whose picture is there more than once, each with the first of that picture, (n, 2).

    Returns:
        Positions for training and positions for validation, ascending.
    """
    count = min(count, len(row_ids) // 4)
    with np.errstate(over="ignore"):  # splitmix64, which spreads neighbouring row ids
        hashes = np.asarray(row_ids).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        hashes ^= hashes >> np.uint64(31)
    held_out = np.zeros(len(row_ids), bool)
    if repeats is None or not len(repeats):
        held_out[np.argsort(hashes, kind="stable")[:count]] = True
    else:
        held_out[_by_picture(hashes, repeats, count)] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _by_picture(hashes: np.ndarray, repeats: np.ndarray, count: int) -> list[int]:
    """Positions of up to `count` images, in order of hash, with all copies of each."""
    pictures = np.arange(len(hashes))
    pictures[repeats[:, 0]] = repeats[:, 1]
    np.minimum.at(hashes, pictures, hashes.copy())
    order = np.lexsort((pictures, hashes[pictures]))
    found: list[int] = []
    begin = 0
    while len(found) < count and begin < len(order):
        end = begin + 1
        while end < len(order) and pictures[order[end]] == pictures[order[begin]]:
            end += 1
        if len(found) + end - begin <= count:
            found += order[begin:end].tolist()
        begin = end
    return found


def read_excluded(path: Path) -> np.ndarray:
    """Positions in the index, ascending, (n,); what the stage leakage wrote.

    Raises:
        DataError: There is no such file.
    """
    try:
        return np.asarray(np.load(path))
    except FileNotFoundError:
        raise DataError(f"{path}: not found; run `dvc repro leakage`") from None


def without(positions: np.ndarray, excluded: np.ndarray) -> np.ndarray:
    """The positions that are not excluded, in their order.

    Raises:
        DataError: None is left.
    """
    left = positions[~np.isin(positions, excluded)]
    if not len(left):
        raise DataError(
            f"all {len(positions)} training images look like those of an evaluation set; metrics/leakage.json tells which. "
            "Set data.exclude_eval_duplicates: false, or take that set out of benchmarks"
        )
    return left


def digest(positions: np.ndarray) -> str:
    """Sixteen hexadecimal digits that identify some images by their positions."""
    return hashlib.sha256(positions.astype(np.int64).tobytes()).hexdigest()[:16]


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


def describe(
    row_ids: np.ndarray, validation_images: int, fraction: float, repeats: np.ndarray | None = None
) -> dict[str, Any]:
    """Identifies the subset of a run: its fraction, and the number and digest of its images."""
    training, _ = split_validation(row_ids, validation_images, repeats)
    chosen = nested(row_ids, training, fraction)
    return {"fraction": fraction, "images": len(chosen), "digest": digest(chosen)}


def _hashes(row_ids: np.ndarray) -> np.ndarray:
    """MurmurHash3's 64-bit finalizer of the salted ids; neighbours in number are far apart."""
    with np.errstate(over="ignore"):
        hashes = row_ids.astype(np.uint64) ^ _SALT
        hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
        return np.asarray(hashes ^ (hashes >> np.uint64(33)))
