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
_RATIO = ("intersection", "union")  # the columns whose sums make overall_iou


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


def resampled_images(
    values: ArrayLike, images: ArrayLike, weights: ArrayLike | None = None, draws: int = 2000, seed: int = 0
) -> NDArray[np.float64]:
    """Means over bootstrap samples of the images, whose items stay together.

    Items of an image have the same picture and are not independent, so that resampling items would give too narrow an
    interval.

    Args:
        values: Of the items, (items,).
        images: Name of the image of each, (items,).
        weights: What the sum of the values is divided by the sum of, (items,), such as the unions of intersections;
            None counts each item once.
        draws: Number of samples.
        seed: Of the samples.

    Returns:
        In the unit of the values, (draws,), or fewer: samples whose weights are all zero have no mean.
    """
    names, place = np.unique(np.asarray(images), return_inverse=True)
    sums, counts = (np.bincount(place, None if of is None else np.asarray(of, np.float64)) for of in (values, weights))
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    tops, bottoms = drawn @ sums, drawn @ counts
    return np.asarray(tops[bottoms > 0] / bottoms[bottoms > 0])


def of_expressions(
    folder: Path, scores: Mapping[str, Mapping[str, float]], level: int
) -> dict[str, dict[str, Interval]]:
    """Intervals of the scores of referring sets, by set and key of metrics/grounding.json; bootstrap by image.

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
    if lacking := {*_MEANS.values(), *_RATIO} - set(pq.read_schema(path).names):
        raise DataError(f"{path}: has no column {min(lacking)}, as an earlier version wrote it; {advice}")
    table = pq.read_table(path, columns=["image", "level", *_MEANS.values(), *_RATIO])
    images, at_level = table["image"].to_numpy(), table["level"].to_numpy() == level
    found = {}
    for key, column in [*_MEANS.items(), ("overall_iou", _RATIO[0])]:
        values = table[column].to_numpy()  # null, where an image has no other object, is NaN
        weights = table[_RATIO[1]].to_numpy() if column == _RATIO[0] else np.ones(len(values))
        chosen = at_level & ~np.isnan(values)
        total = float(weights[chosen].sum())
        if entry[key] is None or not total:
            continue
        mean = 100 * float(values[chosen].sum(dtype=np.float64)) / total
        if abs(mean - entry[key]) > _ROUNDING:
            raise DataError(f"{path}: {key} is {mean:.2f}, metrics/grounding.json says {entry[key]:.2f}; {advice}")
        found[key] = over_queries(entry[key], 100 * resampled_images(values[chosen], images[chosen], weights[chosen]))
    return found
