"""95 % intervals of a table's scores, as other items of the same kind would have given them; not other random seeds."""

from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from caft.errors import DataError
from caft.eval.analysis.curves import Interval, over_queries

_NORMAL = NormalDist().inv_cdf(0.975)
_ROUNDING = 0.02  # of the file's two decimals and of the table's single precision
# Keys of metrics/grounding.json, with the columns of the table of expressions that they are means of.
_MEANS = {"miou": "iou", "miou_wrong_expression": "iou_wrong_expression", "pointing": "pointing"}


def wilson(percent: float, items: int) -> Interval:
    """Wilson's score interval of a share, in percent: what recalls and accuracies get, whose items are hit or missed.

    Unlike a bootstrap, it is not empty where every item is a hit. Items count as independent.

    Raises:
        ValueError: There is no item, or the share does not lie in 0 to 100.
    """
    if items < 1 or not 0 <= percent <= 100:
        raise ValueError(f"expected a share from 0 to 100 of one item or more, found {percent} of {items}")
    share, spread = percent / 100, _NORMAL**2 / items
    middle = (share + spread / 2) / (1 + spread)
    half = (share * (1 - share) * spread + spread**2 / 4) ** 0.5 / (1 + spread)
    return Interval(percent, 100 * max(0.0, middle - half), 100 * min(1.0, middle + half))


def resampled_images(values: ArrayLike, images: ArrayLike, draws: int = 2000, seed: int = 0) -> NDArray[np.float64]:
    """Means over bootstrap samples of the images, whose items stay together.

    Items of an image have the same picture and are not independent, so that resampling items would give too narrow an
    interval.

    Args:
        values: Of the items, (items,).
        images: Name of the image of each, (items,).
        draws: Number of samples.
        seed: Of the samples.

    Returns:
        In the unit of the values, (draws,).
    """
    names, place = np.unique(np.asarray(images), return_inverse=True)
    sums, counts = np.bincount(place, np.asarray(values, np.float64)), np.bincount(place)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return np.asarray((drawn @ sums) / (drawn @ counts))


def of_expressions(
    folder: Path, scores: Mapping[str, Mapping[str, float]], level: int
) -> dict[str, dict[str, Interval]]:
    """Intervals of the means of referring sets, by set and key of metrics/grounding.json; bootstrap by image.

    Args:
        folder: Tables of the expressions of each set, which the stage `evaluate_grounding` writes.
        scores: Content of metrics/grounding.json; sets without scores are left out.
        level: Tokens of the part level, at which the scores are read.

    Raises:
        DataError: A table is missing, or is not of these scores.
    """
    return {
        name: _of_set(folder / f"{name}.parquet", entry, level) for name, entry in scores.items() if "miou" in entry
    }


def _of_set(path: Path, entry: Mapping[str, float], level: int) -> dict[str, Interval]:
    advice = "run `dvc repro evaluate_grounding`"
    if not path.exists():
        raise DataError(f"{path}: not found; metrics/grounding.json has scores of this set; {advice}")
    table = pq.read_table(path, columns=["image", "level", *_MEANS.values()])
    images, at_level = table["image"].to_numpy(), table["level"].to_numpy() == level
    found = {}
    for key, column in _MEANS.items():
        values = table[column].to_numpy()  # null, where an image has no other object, is NaN
        chosen = at_level & ~np.isnan(values)
        if entry[key] is None or not chosen.any():
            continue
        mean = 100 * float(values[chosen].mean(dtype=np.float64))
        if abs(mean - entry[key]) > _ROUNDING:
            raise DataError(f"{path}: {key} is {mean:.2f}, metrics/grounding.json says {entry[key]:.2f}; {advice}")
        found[key] = over_queries(entry[key], 100 * resampled_images(values[chosen], images[chosen]))
    return found
