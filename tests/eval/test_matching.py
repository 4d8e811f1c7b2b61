"""AUROC against a count of all pairs, false sentences by hand, and the scores of a set from single matches."""

import itertools

import numpy as np
import pytest

from caft.data.sets import Expression, ReferringImage, ReferringSet
from caft.eval.analysis.matching import NONSENSE, auroc, false_sentences, score_match
from caft.model.match import match
from caft.transforms import open_image

POLYGONS = {1: [[5, 5, 25, 5, 25, 30, 5, 30]]}
REFERENCES = ["a cat", "grass", "two people on a street"]


def pairs_won(true, false):
    return np.mean([(t > f) + 0.5 * (t == f) for t, f in itertools.product(true, false)])


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_the_share_of_pairs_in_which_the_true_one_is_higher(seed):
    rng = np.random.default_rng(seed)
    true, false = rng.integers(0, 9, 37) + 1, rng.integers(0, 9, 23)  # with ties
    assert auroc(true, false) == pytest.approx(pairs_won(true, false))
    assert auroc([2.0, 3.0], [1.0]) == 1 and auroc([0.0], [1.0, 2.0]) == 0 and auroc([1.0], [1.0]) == 0.5


def test_auroc_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="0 true and 1 false"):
        auroc([], [1.0])


@pytest.fixture(scope="module")
def images(pictures):
    texts = [["a small striped red star", "a large plain blue heart"], ["a small dotted red star"], ["the left one"]]
    return [
        ReferringImage(path, 40, 60, POLYGONS, [Expression(text, 1) for text in own])
        for path, own in zip(pictures[:3], texts, strict=True)
    ]


def test_false_sentences_have_one_thing_false(images):
    found = false_sentences(images[0], images[1])
    assert len(found["colour"]) == 14 and "a small striped green star" in found["colour"]
    assert found["size"] == ["a large striped red star", "a small plain blue heart"]
    assert found["other_picture"] == ["a small dotted red star"] and found["nonsense"] == list(NONSENSE)
    assert "place" in found and not found["place"]
    assert not set().union(*found.values()) & {e.text for e in images[0].expressions}
    assert false_sentences(images[2], images[2])["other_picture"] == []


def test_scores_of_a_set_are_those_of_single_sentences(network, images):
    scores = score_match(network, ReferringSet(images), REFERENCES, 2)
    one_by_one = {"true": []}
    for number, image in enumerate(images):
        kinds = {"true": [e.text for e in image.expressions], **false_sentences(image, images[(number + 1) % 3])}
        for kind, texts in kinds.items():
            for text in texts:
                one_by_one.setdefault(kind, []).extend(match(network, open_image(image.path), [text], REFERENCES))
    true = one_by_one.pop("true")
    one_by_one["all"] = [m for found in one_by_one.values() for m in found]
    expected = {kind: found for kind, found in one_by_one.items() if found}
    assert set(scores["auroc"]) == set(scores["auroc_percentile"]) == set(expected) and "place" not in expected
    for kind, found in expected.items():
        assert scores["sentences"][kind] == len(found)
        won = pairs_won([m.logit for m in true], [m.logit for m in found])
        assert scores["auroc"][kind] == pytest.approx(100 * won, abs=0.5)
        won = pairs_won([m.percentile for m in true], [m.percentile for m in found])
        assert scores["auroc_percentile"][kind] == pytest.approx(100 * won, abs=1)
        assert scores["greyed"][kind] == pytest.approx(100 * np.mean([not m.borne_out for m in found]))
    assert scores["sentences"]["true"] == 4
