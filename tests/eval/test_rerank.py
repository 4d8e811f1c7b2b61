import numpy as np
import pytest
import torch

from caft.eval.scores.rerank import rerank
from caft.eval.scores.retrieval import rank
from caft.model.scores import blend, part_scores


@pytest.fixture(scope="module")
def sets(network):
    generator = torch.Generator().manual_seed(3)
    whole = 3 * torch.randn(6, 9, generator=generator)
    part, texts = torch.randn(6, 8, 64, generator=generator), torch.randn(9, 2, 64, generator=generator)
    return whole, part, texts, np.array([0, 1, 2, 3, 4, 5, 0, 0, 3])


@pytest.mark.parametrize("space", ["logit", "cosine"])
def test_with_all_as_candidates_it_is_the_exact_ranking(network, sets, space):
    whole, part, texts, truth = sets
    exact = part_scores(network, part, texts)
    weights = (0.0, 0.4, 1.0)
    rankings = rerank(network, whole, part, texts, 9, weights, space, truth)
    for weight, found in zip(weights, rankings, strict=True):
        expected = rank(blend(network, whole, exact, weight, space).numpy(), truth)
        assert found.images.tolist() == expected.images.tolist()
        assert found.texts.tolist() == expected.texts.tolist()
        assert found.tied == expected.tied == 0


def test_matches_count_among_the_candidates_alone(network, sets):
    whole, part, texts, truth = sets
    blended = blend(network, whole, part_scores(network, part, texts), 0.5).tolist()
    (found,) = rerank(network, whole, part, texts, 3, [0.5], "logit", truth)
    whole = whole.tolist()
    lost = 0
    for image in range(6):
        candidates = sorted(range(9), key=lambda text: -whole[image][text])[:3]
        mine = [blended[image][text] for text in candidates if truth[text] == image]
        others = [blended[image][text] for text in candidates if truth[text] != image]
        if mine:
            assert found.images[image] == sum(other >= max(mine) for other in others)
        else:
            lost += 1
            assert found.images[image] == sum(truth != image)
    for text in range(9):
        candidates = sorted(range(6), key=lambda image: -whole[image][text])[:3]
        if truth[text] in candidates:
            own = blended[truth[text]][text]
            assert found.texts[text] == sum(blended[image][text] >= own for image in candidates) - 1
        else:
            lost += 1
            assert found.texts[text] == 5
    assert lost and found.tied == 0
