"""An estimate with its 95 % interval: that of a few runs, and the one that bootstrap samples give."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

_LEVEL = 0.95


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

    Raises:
        ValueError: `values` is empty.
    """
    if not len(values):
        raise ValueError("no run to take the mean of")
    mean = float(np.mean(values))
    if len(values) == 1:
        return Interval(mean, None, None)
    from scipy.stats import t as student  # takes a second to import

    sd = float(np.std(values, ddof=1))
    low, high = (mean + float(end) * sd / len(values) ** 0.5 for end in student.interval(_LEVEL, len(values) - 1))
    return Interval(mean, low, high, sd)


def over_queries(value: float, drawn: NDArray[np.float64]) -> Interval:
    """A value with the interval between the 2.5th and the 97.5th percentile of what bootstrap samples gave."""
    low, high = np.percentile(drawn, [50 * (1 - _LEVEL), 50 * (1 + _LEVEL)])
    return Interval(value, float(low), float(high))
