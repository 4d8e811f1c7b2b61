"""Means over seeds and items at once, with 95 % intervals for other seeds and other items; paired differences.

Every run is scored on the same items (queries, or pictures with their expressions), so seeds and items are crossed: a mean
varies with both, and an interval over one of them alone is too narrow. The two-way random-effects analysis of variance adds
up their parts, with the degrees of freedom of Satterthwaite; of five seeds it keeps Student's wide tails, which a bootstrap of
seeds does not. It is what studies of several readers on the same cases use (Dorfman, Berbaum and Metz 1992; Hillis 2007), and
what Clark (1973) asked of subjects that read the same words.
"""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caft.eval.analysis.curves import Interval

_NORMAL = NormalDist().inv_cdf(0.975)


def over_both(values: ArrayLike, low: float = -np.inf, high: float = np.inf) -> Interval:
    """Mean over seeds and items, with its interval; one run has none.

    Args:
        values: Of each item in each run, (seeds, items), two items at the least.
        low: The least that a mean can be; an interval ends there, which takes away nothing that could be true.
        high: The most.

    Returns:
        With the deviation over seeds of a run's mean.

    Raises:
        ValueError: There is no run, or a single item.
    """
    found = np.asarray(values, np.float64)
    if found.ndim != 2 or not len(found) or found.shape[1] < 2:
        raise ValueError(f"expected values (seeds, items) of a run and two items at the least, found {found.shape}")
    seeds, items = found.shape
    mean = float(found.mean())
    if seeds == 1:
        return Interval(mean, None, None)
    from scipy.stats import t as student  # takes a second to import

    of_seeds, of_items = found.mean(1), found.mean(0)
    rest = found - of_seeds[:, None] - of_items + mean
    between_seeds = items * float(((of_seeds - mean) ** 2).sum()) / (seeds - 1)
    between_items = seeds * float(((of_items - mean) ** 2).sum()) / (items - 1)
    residual = float((rest**2).sum()) / ((seeds - 1) * (items - 1))
    # No part of the variance is below zero, though its estimate may be.
    total = max(between_seeds, between_items, between_seeds + between_items - residual)
    sd = float(of_seeds.std(ddof=1))
    if total == 0:
        return Interval(mean, mean, mean, sd)
    freedom = total**2 / (between_seeds**2 / (seeds - 1) + between_items**2 / (items - 1))
    reach = float(student.ppf(0.975, freedom)) * (total / (seeds * items)) ** 0.5
    return Interval(mean, max(low, mean - reach), min(high, mean + reach), sd)


def by_picture(values: ArrayLike, pictures: ArrayLike) -> NDArray[np.float64]:
    """One value for each picture in place of each of its items, with the same mean in every run.

    Items of a picture are not independent. What a picture with many items adds to the mean is weighed by their number, as in a
    ratio estimator.

    Args:
        values: (seeds, items).
        pictures: Of each item, (items,).

    Returns:
        (seeds, pictures).
    """
    found = np.asarray(values, np.float64)
    names, place = np.unique(np.asarray(pictures), return_inverse=True)
    counts = np.bincount(place)
    sums = np.stack([np.bincount(place, run) for run in found])
    means = found.mean(1, keepdims=True)
    return np.asarray(means + (sums - means * counts) / counts.mean())


def verdict(difference: Interval) -> str:
    """What an interval of a difference says, of its ends with one decimal: an order only if both are on one side of zero."""
    if difference.low is None or difference.high is None:
        return "not separated"
    low, high = round(difference.low, 1), round(difference.high, 1)
    if low > 0:
        return f"higher by {low:.1f} to {high:.1f} points (95 %)"
    if high < 0:
        return f"lower by {-high:.1f} to {-low:.1f} points (95 %)"
    return "not separated"


def same_seeds(first: Sequence[int], second: Sequence[int]) -> list[int]:
    """Seeds that two rows have in common, which alone can be paired."""
    return sorted(set(first) & set(second))


def over_items(values: ArrayLike) -> Interval:
    """Mean of one run, with the 95 % interval for other items alone, (items,)."""
    found = np.asarray(values, np.float64)
    mean = float(found.mean())
    reach = _NORMAL * float(found.std(ddof=1)) / len(found) ** 0.5
    return Interval(mean, mean - reach, mean + reach)
