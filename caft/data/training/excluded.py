"""Images of the training index that training leaves out, since they look like those of an evaluation set."""

import hashlib
from pathlib import Path

import numpy as np

from caft.errors import DataError


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


def digest(excluded: np.ndarray) -> str:
    """Sixteen hexadecimal digits that identify the excluded images."""
    return hashlib.sha256(excluded.astype(np.int64).tobytes()).hexdigest()[:16]
