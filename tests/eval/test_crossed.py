"""Intervals over seeds and items at once: worked by hand, by a plain loop, and right as often as they say."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import t as student

from caft.eval.analysis.crossed import by_picture, over_both, over_items, verdict
from caft.eval.analysis.curves import Interval

RUNS = 1000  # of a simulation: a share of 0.95 is then known to 0.014, two deviations


def test_an_interval_worked_by_hand() -> None:
    # Two seeds, two items. Means 3 and 5 of the seeds, 2 and 6 of the items, 4 of all. Squares about them: of seeds
    # 2 * (1 + 1) / 1 = 4, of items 2 * (4 + 4) / 1 = 16; values without both parts are 1, 5, 3, 7, so nothing is left.
    found = over_both([[1, 5], [3, 7]])
    total = 4 + 16
    freedom = total**2 / (4**2 + 16**2)
    reach = student.ppf(0.975, freedom) * (total / 4) ** 0.5
    assert found.value == 4 and found.sd == pytest.approx(2**0.5)
    assert (found.low, found.high) == (pytest.approx(4 - reach), pytest.approx(4 + reach))


def test_the_parts_of_the_variance_by_a_plain_loop() -> None:
    values = np.random.default_rng(0).normal(size=(4, 9)) + np.arange(9) + 3 * np.arange(4)[:, None]
    seeds, items = values.shape
    mean = sum(map(sum, values)) / 36
    of_seed = [sum(values[s]) / items for s in range(seeds)]
    of_item = [sum(values[:, q]) / seeds for q in range(items)]
    between_seeds = sum((m - mean) ** 2 for m in of_seed for _ in range(items)) / 3
    between_items = sum((m - mean) ** 2 for m in of_item for _ in range(seeds)) / 8
    rest = sum((values[s, q] - of_seed[s] - of_item[q] + mean) ** 2 for s in range(4) for q in range(9)) / 24
    total = between_seeds + between_items - rest
    reach = student.ppf(0.975, total**2 / (between_seeds**2 / 3 + between_items**2 / 8)) * (total / 36) ** 0.5
    found = over_both(values)
    assert (found.low, found.high) == (pytest.approx(mean - reach), pytest.approx(mean + reach))


def test_ends_of_a_score_stay_within_what_it_can_be() -> None:
    hits = 100.0 * np.array([[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1]])
    free, bounded = over_both(hits), over_both(hits, 0, 100)
    assert free.high is not None and free.high > 100 and bounded.high == 100 and bounded.low == free.low
    assert over_both(100 - hits, 0, 100).low == 0
    assert over_both(np.full((3, 4), 50.0)) == Interval(50, 50, 50, 0)


def test_one_run_has_no_interval_and_no_run_is_refused() -> None:
    assert over_both([[0, 100]]) == Interval(50, None, None)
    alone = over_items([0, 100, 0, 100])
    assert alone.value == 50 and alone.high == pytest.approx(50 + 1.959964 * (10000 / 3 / 4) ** 0.5)
    for shape in ((0, 3), (3, 1), (3,)):
        with pytest.raises(ValueError, match="seeds, items"):
            over_both(np.zeros(shape))


# ---- how often they are right

Draw = Callable[[np.random.Generator], np.ndarray]


def normal(of_seeds: float, of_items: float, rest: float) -> Draw:
    """Values of 5 seeds and 100 items about zero, with these deviations."""
    return lambda rng: (
        rng.normal(0, of_seeds, (5, 1)) + rng.normal(0, of_items, (1, 100)) + rng.normal(0, rest, (5, 100))
    )


def hits(rng: np.random.Generator) -> np.ndarray:
    """Differences of hits of two rows, in percent: harder and easier queries, better and worse seeds; zero on average."""
    query, first, second = rng.normal(0, 1.5, (1, 100)), rng.normal(0, 0.5, (5, 1)), rng.normal(0, 0.5, (5, 1))
    own = rng.normal(0, 0.8, (2, 1, 100))  # what a row does better on a query whatever the seed
    noise = rng.logistic(size=(2, 5, 100))
    return 100.0 * ((query + own[0] + first + noise[0] > 0).astype(int) - (query + own[1] + second + noise[1] > 0))


CASES = {
    "seeds matter most": normal(10, 5, 20),
    "items matter most": normal(1, 40, 20),
    "both": normal(4, 30, 30),
    "seeds do not matter": normal(0, 20, 30),
    "items do not matter": normal(5, 0, 30),
    "hits": hits,
}


def covered(draw: Draw, interval: Callable[[np.ndarray], tuple[float, float]], runs: int = RUNS) -> float:
    """Share of draws whose interval holds the true mean, zero."""
    rng = np.random.default_rng(0)
    ends = [interval(draw(rng)) for _ in range(runs)]
    return sum(low <= 0 <= high for low, high in ends) / runs


def both(values: np.ndarray) -> tuple[float, float]:
    found = over_both(values)
    assert found.low is not None and found.high is not None
    return found.low, found.high


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_95_of_100_intervals_hold_the_truth(case: str) -> None:
    # Never fewer than they say; more where a part of the variance is nothing, for its estimate is never below zero.
    assert 0.93 <= covered(CASES[case], both) <= 0.99


def test_intervals_of_seeds_or_of_items_alone_do_not() -> None:
    def of_seeds(values: np.ndarray) -> tuple[float, float]:
        means = values.mean(1)
        low, high = student.interval(0.95, 4, means.mean(), means.std(ddof=1) / 5**0.5)
        return float(low), float(high)

    def of_items(values: np.ndarray) -> tuple[float, float]:
        found = over_items(values.mean(0))
        assert found.low is not None and found.high is not None
        return found.low, found.high

    def of_drawn(values: np.ndarray) -> tuple[float, float]:
        """Seeds and items drawn with replacement, both: the percentiles of the means."""
        rng = np.random.default_rng(1)
        seeds = rng.multinomial(5, np.full(5, 0.2), 200) / 5
        items = rng.multinomial(100, np.full(100, 0.01), 200) / 100
        low, high = np.percentile(np.einsum("ds,sq,dq->d", seeds, values, items), [2.5, 97.5])
        return float(low), float(high)

    assert covered(CASES["items matter most"], of_seeds, runs=300) < 0.85
    assert covered(CASES["seeds matter most"], of_items, runs=300) < 0.85
    assert covered(CASES["seeds matter most"], of_drawn, runs=300) < 0.91


# ---- pictures with several items


def test_items_of_a_picture_are_taken_together() -> None:
    # Two pictures with two items and one; means 2 of the run. 2 + ((1 + 2) - 2 * 2) / 1.5 and 2 + (3 - 2) / 1.5.
    found = by_picture([[1.0, 2.0, 3.0]], ["a", "a", "b"])
    np.testing.assert_allclose(found, [[2 - 1 / 1.5, 2 + 1 / 1.5]])
    values = np.random.default_rng(0).normal(size=(3, 20))
    pictures = np.random.default_rng(1).integers(6, size=20)
    np.testing.assert_allclose(by_picture(values, pictures).mean(1), values.mean(1))
    np.testing.assert_allclose(by_picture(values, range(20)), values)


def test_copies_of_an_item_do_not_narrow_an_interval() -> None:
    values = np.random.default_rng(0).normal(size=(5, 30))
    copies, pictures = np.repeat(values, 4, axis=1), np.repeat(np.arange(30), 4)
    together, plain = over_both(by_picture(copies, pictures)), over_both(values)
    assert (together.low, together.high) == (pytest.approx(plain.low), pytest.approx(plain.high))
    apart = over_both(copies)
    assert apart.high is not None and plain.high is not None and apart.high < plain.high


# ---- sentences


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (1.23, 4.56, "higher by 1.2 to 4.6 points (95 %)"),
        (-4.56, -1.23, "lower by 1.2 to 4.6 points (95 %)"),
        (-0.1, 3.0, "not separated"),
        (0.04, 3.0, "not separated"),  # as it is printed, it would begin at zero
        (0.0, 0.0, "not separated"),
        (None, None, "not separated"),
    ],
)
def test_a_difference_in_words(low: float | None, high: float | None, sentence: str) -> None:
    assert verdict(Interval(1.0, low, high)) == sentence
