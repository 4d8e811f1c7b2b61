"""Measures of superpixels against plain loops and hand-worked maps, and the methods side by side."""

from dataclasses import replace

import numpy as np
import pytest

from caft.eval.analysis.superpixel_methods import compare_methods
from caft.eval.scores.superpixels import (
    SCORES,
    SuperpixelTally,
    achievable_accuracy,
    boundary_recall,
    covered_by,
    oracle_iou,
    score_superpixels,
    thin_parts,
)
from caft.transforms import nearest_pixels


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_achievable_accuracy_is_that_of_the_best_object_for_each_superpixel(rng):
    for _ in range(5):
        labels, truth = rng.integers(0, 7, (12, 9)), rng.integers(0, 4, (12, 9))
        right = 0
        for superpixel in range(7):
            inside = [int(t) for t, s in zip(truth.ravel(), labels.ravel(), strict=True) if s == superpixel]
            right += max((inside.count(t) for t in range(4)), default=0)
        assert achievable_accuracy(labels, truth) == pytest.approx(right / labels.size)


def test_one_superpixel_can_only_be_background_and_the_truth_itself_is_perfect():
    truth = np.zeros((10, 10), int)
    truth[:3, :4] = 1
    assert achievable_accuracy(np.zeros((10, 10), int), truth) == pytest.approx(0.88)
    assert achievable_accuracy(truth, truth) == 1
    assert oracle_iou(truth, truth == 1) == 1


def test_thin_parts_are_what_no_square_reaches(rng):
    mask = rng.random((14, 11)) < 0.8
    for side in (2, 3):
        padded = np.pad(mask, side, mode="edge")
        reached = np.zeros_like(padded)
        for y in range(padded.shape[0] - side + 1):
            for x in range(padded.shape[1] - side + 1):
                if padded[y : y + side, x : x + side].all():
                    reached[y : y + side, x : x + side] = True
        assert (thin_parts(mask, side) == (mask & ~reached[side:-side, side:-side])).all()


def test_an_arm_is_thin_and_a_body_at_the_edge_is_not():
    mask = np.zeros((20, 20), bool)
    mask[5:12, 0:6] = True  # touches the image's edge, beyond which it goes on
    mask[8, 6:15] = True
    thin = thin_parts(mask, 4)
    assert thin[8, 6:15].all() and thin.sum() == 9


def test_covered_pixels_are_those_of_superpixels_mostly_inside():
    labels = np.array([[0, 0, 1, 1], [0, 0, 1, 1]])
    mask = np.array([[1, 1, 1, 0], [1, 0, 1, 0]], bool)  # three of four pixels, and two of four
    assert covered_by(labels, mask).tolist() == [[True, True, False, False]] * 2


def test_a_mask_is_squashed_by_the_nearest_pixel():
    mask = np.zeros((4, 8), bool)
    mask[:2, 4:] = True
    assert nearest_pixels(mask, 4, 4).tolist() == [[False, False, True, True]] * 2 + [[False] * 4] * 2


def test_intervals_are_those_of_a_loop_over_samples_of_the_images(rng):
    """Images with one to three objects, which stay together; some without a thin part."""
    tally, rows = SuperpixelTally(4), []
    for number in range(25):
        labels, objects = np.kron(rng.integers(0, 60, (8, 8)), np.ones((2, 2), int)), []
        labels[8:] = 0  # a coarse one below fine ones
        for place in range(1 + number % 3):
            mask = np.zeros((16, 16), bool)
            mask[2 : 9 + place, 5 * place : 5 * place + 1 + number % 4] = True
            objects.append(mask)
        tally.add(labels, objects)
        truth = sum(place * mask for place, mask in enumerate(objects, start=1))
        thin = [thin_parts(mask, 3) for mask in objects]
        rows.append({
            "count": (len(set(labels.flat)), 1),
            "boundary_recall": (100 * boundary_recall(labels, truth), 1),
            "achievable_accuracy": (100 * achievable_accuracy(labels, truth), 1),
            "oracle_miou": (100 * sum(oracle_iou(labels, mask) for mask in objects), len(objects)),
            "thin_recall": (
                100 * sum((part & covered_by(labels, mask)).sum() for part, mask in zip(thin, objects, strict=True)),
                sum(part.sum() for part in thin),
            ),
        })  # fmt: skip
    assert 0 < sum(row["thin_recall"][1] == 0 for row in rows) < 25
    samples = [rng.choice(25, 25) for _ in range(4000)]
    for key, found in tally.intervals().items():
        drawn = [sum(rows[n][key][0] for n in some) / sum(rows[n][key][1] for n in some) for some in samples]
        mean = sum(row[key][0] for row in rows) / sum(row[key][1] for row in rows)
        assert found.value == tally.scores()[key] == pytest.approx(mean)
        assert found.low < found.value < found.high
        near = 0.2 * np.std(drawn)
        assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=near), key


def test_a_score_that_no_image_has_is_none():
    tally = SuperpixelTally(4)
    tally.add(np.zeros((8, 8), int), [np.zeros((8, 8), bool)])
    assert tally.scores()["thin_recall"] is tally.scores()["oracle_miou"] is tally.intervals()["oracle_miou"] is None


def test_the_metrics_file_has_the_ends_of_its_scores(network, scenes):
    benchmark = replace(scenes["phrase"], images=scenes["phrase"].images[:6])
    found = score_superpixels(network.superpixels.eval().cpu(), 64, 8, benchmark)
    assert list(found) == [*SCORES, "intervals"] and set(found["intervals"]) == set(SCORES)
    for key, ends in found["intervals"].items():
        assert ends["low"] <= found[key] <= ends["high"]
    assert found["intervals"]["grid_oracle_miou"]["low"] < found["grid_oracle_miou"]


def test_methods_are_measured_on_the_same_images(network, scenes):
    scores, cases = compare_methods(network, scenes["phrase"], images=6, cases=2)
    assert [method.name for method in scores] == ["SFCN, of the model", "SLIC (scikit-image)", "plain grid"]
    slic, grid = scores[1:]
    assert grid.scores["count"] == 64
    for key, gap in (("oracle_miou", 5), ("boundary_recall", 10)):
        assert slic.scores[key] > grid.scores[key] + gap
    for method in scores:
        assert 80 < method.scores["achievable_accuracy"] <= 100 and 0 <= method.scores["thin_recall"] <= 100
        assert method.milliseconds >= 0
    assert len(cases) == 2 and cases[0].image.size == (64, 64)
    assert cases[0].labels["plain grid"].tolist() == [[y // 8 * 8 + x // 8 for x in range(64)] for y in range(64)]
