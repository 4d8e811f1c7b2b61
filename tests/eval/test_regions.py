import numpy as np
import pytest
import torch

from caft.captions.tokenizer import tokenize
from caft.data.sets import Region, RegionSet
from caft.eval.scores.features import encode_pictures
from caft.eval.scores.regions import average_cosines, box_weights, crop_of, score_regions
from caft.network.caft import ImageFeatures
from caft.transforms import open_image, squash


def features_of(labels, assignment):
    """Features of an image of which only superpixels and grouping are of interest."""
    return ImageFeatures(
        whole=torch.zeros(1, 64),
        part=torch.zeros(1, assignment.shape[1], 64),
        labels=torch.as_tensor(labels)[None],
        assignments=[torch.as_tensor(assignment, dtype=torch.float32)[None]],
    )


def grid():
    """64 x 64 pixels, superpixels of 8 x 8; groups of two superpixels side by side."""
    cells = np.arange(64) // 8
    labels = cells[:, None] * 8 + cells[None]
    assignment = np.zeros((64, 32))
    assignment[np.arange(64), np.arange(64) // 2] = 1
    return features_of(labels, assignment)


def test_segments_outside_the_box_have_no_weight(network):
    # The original is 128 wide and 32 high. The box covers its left quarter: columns 0 to 15 at the model's size, so
    # the first group of each row of superpixels.
    weights = box_weights(network, grid(), (0, 0, 32, 32), (32, 128))
    expected = torch.zeros(32)
    expected[::4] = 1
    torch.testing.assert_close(weights[0], expected)


def test_a_segment_weighs_what_lies_inside_relative_to_the_best(network):
    # Columns 0 to 23 at the model's size: group 0 wholly inside, group 1 by half; rows 0 to 7: groups 0 to 3 alone.
    weights = box_weights(network, grid(), (0, 0, 24, 8), (64, 64))
    assert weights[0, :4].tolist() == [1, 0.5, 0, 0]
    assert weights[0, 4:].sum() == 0


@pytest.mark.parametrize("box", [(40, 12, 0.25, 0.25), (63.9, 63.9, 5, 5), (-4, 20, 4.01, 1)])
def test_a_box_smaller_than_a_pixel_or_at_the_border_has_a_segment(network, box):
    weights = box_weights(network, grid(), box, (64, 64))
    x, y = (min(max(value, 0), 63) for value in (box[0], box[1]))
    assert weights.max() == 1 and weights.count_nonzero() == 1
    assert weights[0, (int(y) // 8 * 8 + int(x) // 8) // 2] == 1


def test_soft_membership_shares_pixels(network):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 64, (64, 64))
    assignment = rng.dirichlet(np.ones(32), 64)
    box = (5, 9, 20, 30)
    found = box_weights(network, features_of(labels, assignment), box, (64, 64), "soft")[0]
    inside, total = np.zeros(32), np.zeros(32)
    for row in range(64):
        for column in range(64):
            shares = assignment[labels[row, column]]
            total += shares
            if 5 <= column < 25 and 9 <= row < 39:
                inside += shares
    np.testing.assert_allclose(found.numpy(), (inside / total) / (inside / total).max(), rtol=1e-5)


def by_pixels(network, image, box, text):
    """Cosine of a text with the mean over the pixels of a box in a 60 x 40 image, of what their segments' values map to."""
    best = image.assignments[0][0].argmax(1)
    values, amounts = [], []
    for row in range(64):
        for column in range(64):
            across = min((column + 1) * 60 / 64, box[0] + box[2]) - max(column * 60 / 64, box[0])
            down = min((row + 1) * 40 / 64, box[1] + box[3]) - max(row * 40 / 64, box[1])
            if across > 0 and down > 0:
                values.append(image.part[0, best[image.labels[0, row, column]]])
                amounts.append(across * down)
    with torch.no_grad():
        mapped = network.pool.out(network.pool.value(network.pool.norm_value(torch.stack(values))))
    mean = np.average(mapped.double().numpy(), axis=0, weights=amounts)
    text = text.double().numpy()
    return mean @ text / np.linalg.norm(mean) / np.linalg.norm(text)


@pytest.mark.parametrize("box", [(0, 0, 60, 40), (10, 5, 20, 20), (31.2, 7.7, 0.2, 0.1)])
def test_the_mean_of_a_box_is_that_over_its_pixels(network, pictures, box):
    image = next(encode_pictures(network, pictures[:1], [(40, 60)], batch=1))
    texts = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    found = average_cosines(network, image, box, (40, 60), texts)
    expected = [by_pixels(network, image, box, text) for text in texts]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    "box, expected",
    [
        ((10, 5, 20, 20), (10, 5, 30, 25)),
        ((10.4, 5.5, 0.2, 0.1), (10, 5, 11, 6)),  # smaller than a pixel
        ((59.9, 39.9, 5, 5), (59, 39, 60, 40)),
        ((-4, -3, 4.5, 3.5), (0, 0, 1, 1)),
        ((70, 50, 5, 5), (59, 39, 60, 40)),  # outside
    ],
)
def test_a_crop_has_whole_pixels_and_at_least_one(box, expected):
    assert crop_of(box, (40, 60)) == expected


@pytest.mark.parametrize("mode", ["crop", "avg_pool"])
def test_the_mode_names_the_scores_without_prefix(network, pictures, mode):
    row = Region(0, (31, 7, 0.5, 0.5), "a red box", ["a blue box", "grass"])  # smaller than a segment
    benchmark = RegionSet(pictures[:1], [(40, 60)], {level: [row] for level in ("hard", "medium", "easy", "trivial")})
    found = score_regions(network, benchmark, 4, mode=mode)
    assert found["box_mode"] == mode
    assert all(found[key] == value for key, value in found["by_box_mode"][mode].items())


def test_scores_equal_asking_each_box_by_hand(network, pictures):
    texts = ["a red box", "a blue box", "a green ball", "grass", "two cats"]
    rows = [
        Region(0, (0, 0, 30, 20), texts[0], texts[1:]),
        Region(2, (10, 5, 20, 20), texts[1], [texts[0], texts[2]]),
        Region(2, (30, 20, 30, 20), texts[3], [texts[4]]),
        Region(5, (0, 0, 60, 40), texts[4], texts[:2]),
    ]
    levels = {"hard": rows, "medium": rows[:1], "easy": rows[1:], "trivial": rows[3:]}
    benchmark = RegionSet(pictures, [(40, 60)] * 6, levels)
    found = score_regions(network, benchmark, batch=4)

    encoded = list(encode_pictures(network, pictures, [(40, 60)] * 6, batch=1))
    hits, crops, means = [], [], []
    for row in rows:
        weights = box_weights(network, encoded[row.image], row.box, (40, 60))
        scores = [
            network.box_logits(encoded[row.image], weights, network.sub_caption_features(tokenize([text]))[None]).item()
            for text in (row.positive, *row.negatives)
        ]
        hits.append(scores[0] > max(scores[1:]))
        features = network.sub_caption_features(tokenize([row.positive, *row.negatives]))
        left, top, width, height = (int(value) for value in row.box)
        cut = open_image(pictures[row.image]).crop((left, top, left + width, top + height))
        part = network.image_features(squash(cut, 64)[None]).part
        of_crop = [network.part_logits(part, feature[None]).item() for feature in features]
        crops.append(of_crop[0] > max(of_crop[1:]))
        of_mean = [by_pixels(network, encoded[row.image], row.box, feature) for feature in features]
        means.append(of_mean[0] > max(of_mean[1:]))
    for level, indices in (("hard", [0, 1, 2, 3]), ("medium", [0]), ("easy", [1, 2, 3]), ("trivial", [3])):
        assert found[level] == pytest.approx(100 * np.mean([hits[i] for i in indices]))
        for mode, right in (("masked_pool", hits), ("crop", crops), ("avg_pool", means)):
            assert found["by_box_mode"][mode][level] == pytest.approx(100 * np.mean([right[i] for i in indices]))
    assert found["rows"] == 9
    assert found["hard_chance"] == pytest.approx(100 * (1 / 5 + 1 / 3 + 1 / 2 + 1 / 3) / 4)


def test_a_tie_is_a_miss_and_a_hit_only_for_the_optimist(network, pictures):
    # CLIP's tokenizer lowers case, so both descriptions are the same to the model.
    row = Region(0, (0, 0, 30, 20), "a red box", ["A RED BOX"])
    benchmark = RegionSet(pictures[:1], [(40, 60)], {level: [row] for level in ("hard", "medium", "easy", "trivial")})
    found = score_regions(network, benchmark, batch=4)
    for scores in (found, *found["by_box_mode"].values()):
        assert scores["hard"] == 0
        assert scores["hard_optimistic"] == 100


def test_the_box_decides_which_segments_answer(network, pictures):
    encoded = next(encode_pictures(network, pictures[:1], [(40, 60)], batch=1))
    texts = torch.randn(1, 3, 64, generator=torch.Generator().manual_seed(0))
    left = network.box_logits(encoded, box_weights(network, encoded, (0, 0, 15, 40), (40, 60)), texts)
    right = network.box_logits(encoded, box_weights(network, encoded, (45, 0, 15, 40), (40, 60)), texts)
    assert (left - right).abs().max() > 1e-4
