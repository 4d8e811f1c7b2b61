"""Intervals of scores against scipy's, an enumeration of all samples, and a published example."""

import itertools
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest, bootstrap

from caft.errors import DataError
from caft.eval.analysis.intervals import of_expressions, resampled_images, wilson
from caft.eval.scores.referring import score_expressions
from caft.eval.scores.referring_sets import SCHEMA, write_expressions


@pytest.mark.parametrize(("hits", "items"), [(0, 10), (10, 10), (1, 2), (205, 256), (256, 256), (7000, 7805)])
def test_wilson_is_scipys(hits, items):
    expected = binomtest(hits, items).proportion_ci(method="wilson")
    found = wilson(100 * hits / items, items)
    assert (found.low, found.high) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-9)
    assert found.value == 100 * hits / items and found.sd is None


def test_wilson_of_a_published_example():
    found = wilson(100 * 81 / 263, 263)  # Newcombe, Statistics in Medicine 17 (1998), Table I: 0.2553 to 0.3662
    assert (round(found.low, 2), round(found.high, 2)) == (25.53, 36.62)


@pytest.mark.parametrize(("percent", "items"), [(50.0, 0), (-0.1, 5), (100.1, 5)])
def test_wilson_refuses_what_is_no_share(percent, items):
    with pytest.raises(ValueError, match="expected a share from 0 to 100 of one item or more"):
        wilson(percent, items)


def test_samples_of_images_are_all_ordered_choices_of_them():
    """Three images with 1, 2 and 1 items have 27 equally likely samples; each mean is as frequent as among them."""
    values, images = [0.9, 0.2, 0.4, 0.1], ["a", "b", "b", "c"]
    of_image = {name: [v for v, i in zip(values, images, strict=True) if i == name] for name in "abc"}
    samples = [[v for name in drawn for v in of_image[name]] for drawn in itertools.product("abc", repeat=3)]
    expected = np.unique(np.round([np.mean(sample) for sample in samples], 9), return_counts=True)
    drawn = resampled_images(values, images, draws=54_000, seed=1)
    found = np.unique(np.round(drawn, 9), return_counts=True)
    assert np.array_equal(found[0], expected[0])
    assert np.allclose(found[1] / 54_000, expected[1] / 27, atol=0.008)


def test_items_of_an_image_stay_together():
    """Against scipy's bootstrap of pairs of sum and count; resampling items would give half the width."""
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(150), 4)
    values = np.repeat(rng.uniform(size=150), 4)  # items of an image are alike
    sums, counts = np.bincount(images, values), np.bincount(images)
    theirs = bootstrap(
        (sums, counts), lambda s, n, axis=-1: s.sum(axis) / n.sum(axis), paired=True, method="percentile",
        n_resamples=20_000, rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    low, high = np.percentile(resampled_images(values, images, draws=20_000), [2.5, 97.5])
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.003)
    alone = np.percentile(resampled_images(values, np.arange(600), draws=20_000), [2.5, 97.5])
    assert (high - low) / (alone[1] - alone[0]) == pytest.approx(2, abs=0.1)


def table(path, rows):
    base = {"set": path.stem, "annotation": 1, "text": "a thing", "threshold": 0.5}
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist([base | row for row in rows], SCHEMA), path)


ROWS = [
    {"image": "a", "level": 32, "intersection": 10, "union": 20, "iou": 0.5, "iou_wrong_expression": 0.25,
     "pointing": 1.0},
    {"image": "b", "level": 32, "intersection": 60, "union": 60, "iou": 1.0, "iou_wrong_expression": None,
     "pointing": 0.0},  # its only object
    {"image": "a", "level": 8, "intersection": 0, "union": 90, "iou": 0.0, "iou_wrong_expression": 0.0,
     "pointing": 0.0},
]  # fmt: skip
SCORES = {"miou": 75.0, "miou_wrong_expression": 25.0, "overall_iou": 87.5, "pointing": 50.0, "expressions": 2}


def test_intervals_are_of_the_part_level_and_of_what_has_a_value(tmp_path):
    table(tmp_path / "phrase.parquet", ROWS)
    scores = {"phrase": SCORES, "refcoco_val": {"not_run": "not there"}}
    found = of_expressions(tmp_path, scores, 32)
    assert list(found) == ["phrase"]
    ends = {key: (one.value, one.low, one.high) for key, one in found["phrase"].items()}
    # Of two images, a quarter of the samples is twice the first and another twice the second.
    assert ends == {
        "miou": (75.0, 50.0, 100.0),
        "miou_wrong_expression": (25.0, 25.0, 25.0),
        "pointing": (50.0, 0.0, 100.0),
        "overall_iou": (87.5, 50.0, 100.0),  # 70 of 80 pixels, and 20 of 40 or 120 of 120 in the samples of one image
    }
    only = {"phrase": SCORES | {"miou_wrong_expression": None}}
    assert "miou_wrong_expression" not in of_expressions(tmp_path, only, 32)["phrase"]


def test_a_table_of_other_scores_or_none_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"phrase\.parquet: not found; .*evaluate_grounding"):
        of_expressions(tmp_path, {"phrase": SCORES}, 32)
    table(tmp_path / "phrase.parquet", ROWS)
    with pytest.raises(
        DataError, match=r"miou is 75\.00, metrics/grounding\.json says 61\.00; run `dvc repro evaluate_"
    ):
        of_expressions(tmp_path, {"phrase": SCORES | {"miou": 61.0}}, 32)
    with pytest.raises(DataError, match=r"overall_iou is 87\.50, metrics/grounding\.json says 75\.00; run `dvc"):
        of_expressions(tmp_path, {"phrase": SCORES | {"overall_iou": 75.0}}, 32)


def test_a_table_of_an_earlier_version_is_refused_with_what_to_run(tmp_path):
    table(tmp_path / "phrase.parquet", ROWS)
    pq.write_table(pq.read_table(tmp_path / "phrase.parquet").drop_columns(["union"]), tmp_path / "phrase.parquet")
    with pytest.raises(DataError, match=r"phrase\.parquet: has no column union, as an earlier .*evaluate_grounding"):
        of_expressions(tmp_path, {"phrase": SCORES}, 32)


def test_samples_without_any_weight_have_no_mean():
    drawn = resampled_images([3.0, 0.0], ["a", "b"], [4.0, 0.0], draws=1000)  # twice b in a quarter of the samples
    assert 700 < len(drawn) < 800 and set(drawn) == {0.75}


def test_intervals_of_a_scored_set_are_a_naive_loops(model, scenes, tmp_path):
    benchmark = next(iter(scenes.values()))
    scores, rows = score_expressions(model.network, replace(benchmark, images=benchmark.images[:8]), 8)
    write_expressions(tmp_path / "expressions", {"phrase": rows})
    level = model.network.config.tokens[model.network.config.part_stage - 1]
    found = of_expressions(tmp_path / "expressions", {"phrase": scores}, level)["phrase"]
    of_image = {}
    for row in rows:
        if row.level == level:
            of_image.setdefault(row.image, []).append(row.score)
    rng, means, ratios = np.random.default_rng(3), [], []
    for _ in range(4000):
        drawn = [score for name in rng.choice(list(of_image), len(of_image)) for score in of_image[name]]
        means.append(100 * np.mean([score.iou for score in drawn]))
        ratios.append(100 * sum(score.intersection for score in drawn) / sum(score.union for score in drawn))
    for key, expected in (("miou", means), ("overall_iou", ratios)):
        one, near = found[key], 0.2 * np.std(expected)
        assert one.value == scores[key] and one.low < one.value < one.high
        assert (one.low, one.high) == pytest.approx(tuple(np.percentile(expected, [2.5, 97.5])), abs=near)
