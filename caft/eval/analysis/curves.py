"""Runs over seeds and sizes: confidence intervals, orders, slopes over the logarithm, bootstrap of the queries."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LEVEL = 0.95
Order = Literal["higher", "lower", "not separated"]


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float | None  # minus infinity is None
    high: float | None  # infinity is None
    # Standard deviation (n - 1) of what the estimate is the mean of; None for any other estimate, or the mean of one.
    sd: float | None = None

    def rounded(self) -> dict[str, float | None]:
        """As a dict with two decimals."""
        return {key: None if number is None else round(number, 2) for key, number in asdict(self).items()}


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean of runs that differ in the seed alone, with Student's interval; one run has no interval.

    It says what other seeds would have given on the same queries, not what other queries would have.

    Raises:
        ValueError: `values` is empty.
    """
    if not len(values):
        raise ValueError("no run to take the mean of")
    mean = float(np.mean(values))
    if len(values) == 1:
        return Interval(mean, None, None)
    from scipy.stats import t as student  # takes a second to import, and most runs are of one seed

    sd = float(np.std(values, ddof=1))
    low, high = (mean + float(end) * sd / len(values) ** 0.5 for end in student.interval(_LEVEL, len(values) - 1))
    return Interval(mean, low, high, sd)


def order(first: Interval, second: Interval) -> Order:
    """How the first compares with the second: an order only if the two intervals have no point in common."""
    if first.low is not None and second.high is not None and first.low > second.high:
        return "higher"
    if first.high is not None and second.low is not None and first.high < second.low:
        return "lower"
    return "not separated"


def slope(images: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """Least-squares line of scores over log10(images).

    Args:
        images: Images trained on, (sizes,), two different ones at the least.
        scores: In percent, (..., sizes).

    Returns:
        Points for ten times the images, and the score at a single image, (..., 2).
    """
    x = np.log10(np.asarray(images, np.float64))
    y = np.asarray(scores, np.float64)
    if len(np.unique(x)) < 2:
        raise ValueError(f"a slope needs two sizes at the least, found {np.asarray(images).tolist()}")
    lines = np.polyfit(x, y.reshape(-1, len(x)).T, 1)
    return np.asarray(lines.T.reshape(*y.shape[:-1], 2))


def bootstrap(hits: ArrayLike, draws: int = 2000, seed: int = 0) -> NDArray[np.float64]:
    """R@1 of bootstrap samples of the queries (with replacement); same seed, so results are paired.

    Args:
        hits: 1 where a query found its match, else 0, (..., queries).
        draws: Number of samples; 2,000 for all published intervals.
        seed: Of the samples.

    Returns:
        In percent, (draws, ...).
    """
    found = np.asarray(hits, np.float64)
    queries = found.shape[-1]
    # How often each query is in each sample: a product with these counts is the mean over the sample.
    counts = np.random.default_rng(seed).multinomial(queries, np.full(queries, 1 / queries), size=draws)
    return np.asarray(100 * np.moveaxis(found @ counts.T.astype(np.float64), -1, 0) / queries)


def over_queries(value: float, drawn: NDArray[np.float64]) -> Interval:
    """A value with the interval between the 2.5th and the 97.5th percentile of what bootstrap samples gave."""
    low, high = np.percentile(drawn, [50 * (1 - _LEVEL), 50 * (1 + _LEVEL)])
    return Interval(value, float(low), float(high))
