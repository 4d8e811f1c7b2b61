import numpy as np
import pytest
from skimage.filters import threshold_otsu

from caft.captions.tokenizer import tokenize
from caft.data.sets import Expression, ReferringImage, ReferringSet
from caft.eval.scores.referring import ReferringTally, iou, otsu_mask, otsu_threshold, pointing_hit, score_expressions
from caft.model.maps import attention_maps
from caft.transforms import open_image, squash


@pytest.mark.parametrize("seed", range(12))
def test_otsu_equals_scikit_image(seed):
    rng = np.random.default_rng(seed)
    kind = seed % 4
    if kind == 0:  # two blurred classes
        values = np.where(
            rng.random((40, 60)) < rng.uniform(0.05, 0.6), rng.normal(3, 0.4, (40, 60)), rng.normal(0, 1, (40, 60))
        )
    elif kind == 1:  # a few levels, as segments give
        values = rng.random(8)[rng.integers(0, 8, (33, 21))]
    elif kind == 2:  # heavy tail, tiny numbers
        values = rng.exponential(1e-6, (25, 25))
    else:  # far from zero
        values = rng.normal(-1e3, 5, (50, 20))
    assert np.array_equal(otsu_mask(values), values > threshold_otsu(values))
    assert otsu_threshold(values) == pytest.approx(threshold_otsu(values), rel=1e-9)


def test_otsu_is_strictly_above_and_keeps_the_shape():
    assert otsu_mask([[0.0, 0.0, 1.0]]).tolist() == [[False, False, True]]
    assert otsu_mask([5, 5, 7, 7, 7]).tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("scale, shift", [(1e-9, 0), (1e6, -3), (1, 1e4)])
def test_otsu_ignores_scale_and_shift(scale, shift):
    values = np.random.default_rng(3).random((20, 20)) ** 3
    assert (otsu_mask(values * scale + shift) == otsu_mask(values)).mean() > 0.995


@pytest.mark.parametrize("constant", [0.0, 0.25, -7.0, 1e30])
def test_a_constant_map_has_an_empty_mask(constant):
    mask = otsu_mask(np.full((4, 5), constant))
    assert mask.shape == (4, 5) and mask.dtype == bool and not mask.any()
    assert otsu_threshold(np.full((4, 5), constant)) == threshold_otsu(np.full((4, 5), constant)) == constant


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_map_that_is_no_number_is_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        otsu_mask([[0.0, bad]])


def test_iou():
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    a[:2], b[1:3] = True, True
    assert iou(a, b) == pytest.approx(4 / 12)
    assert iou(a, a) == 1
    assert iou(a, ~a) == 0
    assert iou(np.zeros((2, 2)), np.zeros((2, 2))) == 0
    with pytest.raises(ValueError, match="shape"):
        iou(a, np.zeros((4, 5)))


def test_pointing_shares_a_tied_maximum():
    truth = np.array([[True, False], [False, False]])
    assert pointing_hit([[3, 1], [2, 0]], truth) == 1
    assert pointing_hit([[1, 3], [2, 0]], truth) == 0
    assert pointing_hit([[3, 3], [2, 0]], truth) == 0.5
    assert pointing_hit(np.ones((2, 2)), truth) == 0.25  # a constant map points everywhere
    assert pointing_hit([[3, 3 - 1e-9], [2, 0]], truth) == 0.5  # rounding of one segment's value


def masks():
    """An image of 4 x 5 pixels with objects A (four pixels), B (two), C (four, two of them shared with A)."""
    a, b, c = (np.zeros((4, 5), bool) for _ in range(3))
    a[0, :4] = True
    b[2, :2] = True
    c[0, 2:5] = True
    c[1, 4] = True
    return [a, b, c]


def test_hand_worked_scores_and_controls():
    a, b, c = masks()
    tally = ReferringTally()
    tally.add(a * 1.0, [a, b, c], 0)  # perfect: IoU 1; against B 0, against C 2/6
    tally.add(c * 1.0, [a, b, c], 1)  # wrong object: IoU 0; against A 2/6, against C 1
    tally.add(np.zeros((4, 5)), [b], 0)  # constant map: empty mask; no other object in this image
    scores = tally.scores()
    assert scores["expressions"] == 3
    assert scores["miou"] == pytest.approx(100 * (1 + 0 + 0) / 3)
    assert scores["miou_wrong_expression"] == pytest.approx(100 * ((0 + 1 / 3) / 2 + (1 / 3 + 1) / 2) / 2)
    # All objects cover eight pixels; A is four of them, B two; alone, B is all there is.
    assert scores["miou_all_foreground"] == pytest.approx(100 * (4 / 8 + 2 / 8 + 1) / 3)
    assert scores["miou_whole_image"] == pytest.approx(100 * (4 / 20 + 2 / 20 + 2 / 20) / 3)
    # Intersections 4, 0, 0; unions 4, 6, 2.
    assert scores["overall_iou"] == pytest.approx(100 * 4 / 12)
    # The constant map points everywhere, and the truth is two of twenty pixels.
    assert scores["pointing"] == pytest.approx(100 * (1 + 0 + 2 / 20) / 3)


def test_a_map_that_ignores_words_scores_as_well_with_the_wrong_expression():
    a, b, _ = masks()
    tally = ReferringTally()
    saliency = (a | b) * 1.0
    for target in (0, 1):
        tally.add(saliency, [a, b], target)
    scores = tally.scores()
    assert scores["miou"] == pytest.approx(scores["miou_wrong_expression"])
    assert scores["miou"] == pytest.approx(scores["miou_all_foreground"])


def test_a_single_object_leaves_no_control():
    a, _, _ = masks()
    tally = ReferringTally()
    tally.add(a * 1.0, [a], 0)
    assert tally.scores()["miou_wrong_expression"] is None


def test_nothing_scored_is_no_score():
    with pytest.raises(ValueError, match="no expression"):
        ReferringTally().scores()


def bilinear(values, height, width):
    """Upsampling pixel by pixel: pixel centres at halves, borders repeated."""
    result = np.empty((height, width))
    for row in range(height):
        for column in range(width):
            y = np.clip((row + 0.5) * values.shape[0] / height - 0.5, 0, values.shape[0] - 1)
            x = np.clip((column + 0.5) * values.shape[1] / width - 0.5, 0, values.shape[1] - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, values.shape[0] - 1), min(left + 1, values.shape[1] - 1)
            upper = values[top, left] * (1 - (x - left)) + values[top, right] * (x - left)
            lower = values[bottom, left] * (1 - (x - left)) + values[bottom, right] * (x - left)
            result[row, column] = upper * (1 - (y - top)) + lower * (y - top)
    return result


def by_hand(network, path, text, height, width, membership="hard"):
    """Attention of one text: heads averaged, empty slot dropped, each pixel through its superpixel's groups."""
    features = network.image_features(squash(open_image(path), 64)[None])
    _, attention = network.pool(network.sub_caption_features(tokenize([text]))[None], features.part)
    on_groups = attention.detach().numpy()[0, :, 0, :-1].mean(0)  # (N,)
    assert network.config.part_stage == 2  # so one grouping lies between superpixels and the part level
    assignment = features.assignments[0][0].numpy()  # (N_1, N)
    on_superpixels = on_groups[assignment.argmax(1)] if membership == "hard" else assignment @ on_groups
    return bilinear(on_superpixels[features.labels[0].numpy()], height, width)


@pytest.fixture(scope="module")
def referring(pictures):
    polygons = {1: [[5, 5, 25, 5, 25, 30, 5, 30]], 2: [[30, 0, 59, 0, 59, 18, 30, 18]], 3: [[30, 25, 50, 25, 40, 39]]}
    images = [
        ReferringImage(
            path, 40, 60, polygons, [Expression(f"thing {n} of {path.stem}", 1 + n % 3) for n in range(1 + i)]
        )
        for i, path in enumerate(pictures[:3])
    ]
    return ReferringSet(images)


@pytest.mark.parametrize("membership", ["hard", "soft"])
def test_attention_maps_equal_a_map_made_by_hand(network, pictures, membership):
    features = network.image_features(squash(open_image(pictures[0]), 64)[None])
    texts = ["a red thing", "grass"]
    maps = attention_maps(network, features, network.sub_caption_features(tokenize(texts)), (40, 60), membership)
    assert maps.shape == (2, 40, 60)
    for values, text in zip(maps, texts, strict=True):
        np.testing.assert_allclose(values, by_hand(network, pictures[0], text, 40, 60, membership), atol=1e-5)
    assert np.abs(maps[0] - maps[1]).max() > 1e-4


@pytest.mark.parametrize("batch", [1, 4])
def test_scores_of_a_set_equal_one_expression_at_a_time(network, referring, batch):
    scores, rows = score_expressions(network, referring, batch)
    rows = [row for row in rows if row.level == 32]  # the part level's
    ious, wrong, hits, thresholds = [], [], [], []
    for image in referring.images:
        masks = image.masks
        for expression in image.expressions:
            values = by_hand(network, image.path, expression.text, 40, 60)
            thresholds.append(threshold_otsu(values))
            mask = values > thresholds[-1]
            ious.append((mask & masks[expression.annotation]).sum() / (mask | masks[expression.annotation]).sum())
            wrong.append(
                np.mean([(mask & m).sum() / (mask | m).sum() for a, m in masks.items() if a != expression.annotation])
            )
            highest = values >= values.max() - 1e-6 * np.ptp(values)
            hits.append(masks[expression.annotation][highest].mean())
    assert scores["expressions"] == 6
    assert scores["miou"] == pytest.approx(100 * np.mean(ious), abs=0.05)
    assert scores["miou_wrong_expression"] == pytest.approx(100 * np.mean(wrong), abs=0.05)
    assert scores["pointing"] == pytest.approx(100 * np.mean(hits), abs=0.05)
    np.testing.assert_allclose([row.score.threshold for row in rows], thresholds, rtol=1e-4)
    assert [row.text for row in rows] == [e.text for image in referring.images for e in image.expressions]
    assert 100 * np.mean([row.score.iou for row in rows]) == pytest.approx(scores["miou"])
