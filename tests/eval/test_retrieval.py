import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from caft.data.sets import RetrievalSet
from caft.eval.scores import retrieval
from caft.eval.scores.retrieval import rank, rank_rows, recall_at_k
from caft.eval.scores.retrieval_sets import score_retrieval as score
from caft.model.encoding import encode_captions, encode_cropped
from caft.model.scores import part_scores, whole_scores
from caft.params import load_params

spec = importlib.util.spec_from_file_location("naive", Path(__file__).parents[1] / "reference" / "retrieval.py")
assert spec is not None and spec.loader is not None
naive = importlib.util.module_from_spec(spec)
spec.loader.exec_module(naive)


def test_hand_worked_pairs():
    # Image 0 prefers its text, image 1 prefers text 0; text 0 prefers image 1, text 1 sees 0.1 < 0.4 and finds it.
    scores = [[0.5, 0.1], [0.9, 0.4]]
    assert recall_at_k(scores, ks=(1, 2)) == {"i2t_r1": 50, "i2t_r2": 100, "t2i_r1": 50, "t2i_r2": 100}


def test_hand_worked_captions_of_the_docstring():
    scores = [[0.9, 0.1, 0.5], [0.2, 0.3, 0.4]]
    found = recall_at_k(scores, truth=[0, 0, 1], ks=(1,))
    assert found["i2t_r1"] == 100
    assert found["t2i_r1"] == pytest.approx(100 / 3)


def test_a_collapsed_model_scores_nothing():
    found = recall_at_k(np.zeros((20, 20)))
    assert set(found.values()) == {0.0}
    assert rank(np.zeros((20, 20))).tied == 40
    assert recall_at_k(np.zeros((4, 4)), ks=(4,)) == {"i2t_r4": 100, "t2i_r4": 100}


def test_one_tie_costs_the_hit_and_is_counted():
    scores = np.diag([3.0, 2.0, 1.0])
    assert rank(scores).tied == 0
    scores[0, 1] = 3.0  # image 0 ties; text 1 now prefers image 0
    assert rank(scores).tied == 1
    assert recall_at_k(scores, ks=(1,)) == {"i2t_r1": pytest.approx(200 / 3), "t2i_r1": pytest.approx(200 / 3)}


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_naive_count_with_ties_and_several_captions(seed, monkeypatch):
    monkeypatch.setattr(retrieval, "_ROWS", 3)  # several tiles, the last one uneven
    rng = np.random.default_rng(seed)
    images = int(rng.integers(2, 12))
    truth = rng.permutation(np.concatenate([np.arange(images), rng.integers(0, images, int(rng.integers(0, 15)))]))
    scores = rng.integers(0, 5, (images, len(truth))).astype(np.float32)  # few values: many ties
    found = recall_at_k(scores, truth, ks=(1, 2, 5))
    for k in (1, 2, 5):
        expected = naive.recall(scores.tolist(), truth.tolist(), k)
        assert (found[f"i2t_r{k}"], found[f"t2i_r{k}"]) == pytest.approx(expected)
    assert rank(scores, truth).tied == naive.ties(scores.tolist(), truth.tolist())


def test_identity_is_the_default_truth():
    scores = np.random.default_rng(0).normal(size=(9, 9))
    assert recall_at_k(scores) == recall_at_k(scores, np.arange(9))
    assert recall_at_k(torch.from_numpy(scores)) == recall_at_k(scores)


def test_order_of_the_set_does_not_matter():
    rng = np.random.default_rng(1)
    scores, order = rng.normal(size=(30, 30)), rng.permutation(30)
    assert recall_at_k(scores[order][:, order]) == recall_at_k(scores)


def test_ranks_count_from_zero():
    image_ranks, text_ranks = rank([[1.0, 2.0, 3.0], [0.0, 9.0, 8.0], [0.0, 0.0, 0.0]])[:2]
    assert image_ranks.tolist() == [2, 0, 2]
    assert text_ranks.tolist() == [0, 0, 2]


@pytest.mark.parametrize(
    "scores, truth, message",
    [
        (np.zeros(3), None, "found shape \\(3,\\)"),
        (np.zeros((0, 0)), None, "at least one"),
        (np.zeros((2, 3)), None, "2 images and 3 texts; give truth"),
        (np.zeros((2, 3)), [0, 1], "one image for each of 3 texts"),
        (np.zeros((2, 3)), [0, 1, 2], "integers from 0 to 1"),
        (np.zeros((2, 3)), [0.0, 1.0, 1.0], "integers from 0 to 1"),
        (np.zeros((2, 3)), [0, 0, 0], "1 images have no text, the first is 1"),
        (np.array([[np.nan]]), None, "1 of 1 are NaN"),
    ],
)
def test_what_does_not_fit_is_refused(scores, truth, message):
    with pytest.raises(ValueError, match=message):
        recall_at_k(scores, truth)


def test_the_stage_scores_five_captions_an_image_like_plain_loops(model, pictures):
    captions = [f"A picture, number {number}. It has {number % 7} corners. It is flat." for number in range(12)]
    truth = [0, 0, 0, 1, 1, 2, 3, 3, 4, 5, 5, 5]
    benchmark = RetrievalSet([str(n) for n in range(12)], pictures, captions, truth, expected=30)
    settings = load_params("params.yaml").evaluation
    entry, curve = score(model, benchmark, settings)
    assert (entry["pairs"], entry["expected_pairs"], entry["images"]) == (12, 30, 6)
    images, texts = encode_cropped(model.network, pictures), encode_captions(model, captions)
    matrices = {
        "whole": whole_scores(model.network, images.whole, texts.whole),
        "part": part_scores(model.network, images.part, texts.parts),
    }
    for name, matrix in matrices.items():
        for k in (1, 5, 10):
            expected = naive.recall(matrix.tolist(), truth, k)
            assert (entry[name][f"i2t_r{k}"], entry[name][f"t2i_r{k}"]) == pytest.approx(expected)
    last = [row for row in curve if row["space"] == "logit"][-1]
    assert last["t2i_r1"] == pytest.approx(entry["part"]["t2i_r1"], abs=0.005)


def test_rows_are_ranked_as_the_matrix_with_five_captions_an_image(monkeypatch):
    monkeypatch.setattr(retrieval, "_ROWS", 4)
    rng = np.random.default_rng(2)
    scores, truth = rng.integers(0, 9, (10, 50)).astype(np.float32), np.repeat(np.arange(10), 5)
    asked = []

    def rows(place):
        asked.append(place)
        return scores[place]

    found = rank_rows(rows, 10, 50, truth)
    whole = rank(scores, truth)
    assert found.images.tolist() == whole.images.tolist() and found.texts.tolist() == whole.texts.tolist()
    assert (found.tied_images, found.tied_texts) == (whole.tied_images, whole.tied_texts)
    assert max(place.stop - place.start for place in asked) == 4  # never the whole matrix
    assert retrieval.recalls(found, (1, 5))["t2i_r5"] == naive.recall(scores.tolist(), truth.tolist(), 5)[1]


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_one_pair_is_found_whatever_it_scores(score):
    assert recall_at_k([[score]], ks=(1,)) == {"i2t_r1": 100, "t2i_r1": 100}
