import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from caft.model.scores import blend, part_scores, some_part_scores
from caft.network import part_cosines
from caft.network.part_cosines import PartCosines
from caft.network.part_pairs import gram_pays
from caft.network.text_pool import TextConditionedPool

spec = importlib.util.spec_from_file_location("naive", Path(__file__).parents[1] / "reference" / "part_scores.py")
assert spec is not None and spec.loader is not None
naive = importlib.util.module_from_spec(spec)
spec.loader.exec_module(naive)


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 32, 64, generator=generator), torch.randn(7, 4, 64, generator=generator)


@pytest.mark.parametrize("numbers", [2**21, 2000, 1])  # the last two end tiles inside the set
def test_part_scores_equal_the_mean_over_chunks_pair_by_pair(network, features, numbers, monkeypatch):
    monkeypatch.setattr(part_cosines, "_NUMBERS_ON_CPU", numbers)
    part, texts = features
    scores = part_scores(network, part, texts)
    expected = network.part_scale * naive.mean_cosines(network.pool, part, texts) + network.part_bias.item()
    assert scores.shape == (5, 7)
    np.testing.assert_allclose(scores.numpy(), expected, atol=5e-5)


# Heads and segments for the Gram form and for the pooled form; several blocks of the quadratic form.
@pytest.mark.parametrize("heads, segments, gram", [(1, 6, True), (2, 3, True), (4, 64, False), (8, 5, False)])
def test_cosines_equal_the_pooled_features(heads, segments, gram, monkeypatch):
    monkeypatch.setattr(part_cosines, "_BLOCK", 5)
    monkeypatch.setattr(part_cosines, "_NUMBERS_ON_CPU", 700)
    torch.manual_seed(heads)
    pool = TextConditionedPool(16, heads)
    with torch.no_grad():
        for parameter in pool.parameters():  # norms and biases that do something
            parameter.add_(0.3 * torch.randn_like(parameter))
    part, texts = torch.randn(3, segments, 16), torch.randn(40, 3, 16)
    texts[1] = texts[0]
    part[2, 1:] = part[2, 0]  # segments that are all the same
    assert gram_pays(pool, segments) == gram
    with torch.no_grad():
        cosines = PartCosines(pool, texts)
        found = torch.cat([scores for _, scores in cosines.of_all(part)])
        some = cosines.of_some(part[1], torch.tensor([7, 0, 39, 7]))
    expected = naive.mean_cosines(pool, part, texts[:8])
    np.testing.assert_allclose(found[:, :8].numpy(), expected, atol=1e-5)
    assert torch.equal(found[:, 0], found[:, 1])  # equal captions tie
    torch.testing.assert_close(some, found[1, [7, 0, 39, 7]], atol=1e-6, rtol=0)


def test_a_pooled_feature_of_no_length_scores_nothing():
    pool = TextConditionedPool(16, 2)
    with torch.no_grad():
        for parameter in pool.out.parameters():
            parameter.zero_()
        ((_, found),) = PartCosines(pool, torch.randn(4, 2, 16)).of_all(torch.randn(3, 5, 16))
    assert torch.equal(found, torch.zeros(3, 4))


def test_some_pairs_score_as_among_all(network, features):
    part, texts = features
    wanted = [torch.tensor(numbers, dtype=torch.int64) for numbers in ([3], [], [0, 6, 2], [1], list(range(7)))]
    scores = part_scores(network, part, texts)
    for row, asked, found in zip(scores, wanted, some_part_scores(network, part, texts, wanted), strict=True):
        torch.testing.assert_close(found, row[asked], atol=1e-4, rtol=0)


def test_blend_mixes_logits_without_bias(network):
    whole_cosine, part_cosine = torch.tensor([[0.25]]), torch.tensor([[0.5]])
    whole = network.whole_scale * whole_cosine + network.whole_bias.detach()
    part = network.part_scale * part_cosine + network.part_bias.detach()
    mixed = blend(network, whole, part, 0.3)
    assert mixed.item() == pytest.approx(0.7 * network.whole_scale * 0.25 + 0.3 * network.part_scale * 0.5, abs=1e-4)
    assert blend(network, whole, part, 0.3, "cosine").item() == pytest.approx(0.7 * 0.25 + 0.3 * 0.5, abs=1e-5)


def test_ends_of_the_blend_are_the_scores_themselves(network):
    generator = torch.Generator().manual_seed(1)
    whole, part = torch.randn(4, 4, generator=generator), torch.randn(4, 4, generator=generator)
    for space in ("logit", "cosine"):
        assert torch.equal(blend(network, whole, part, 0.0, space).argsort(1), whole.argsort(1))
        assert torch.equal(blend(network, whole, part, 1.0, space).argsort(1), part.argsort(1))


@pytest.mark.parametrize("weight, space", [(-0.1, "logit"), (1.1, "logit"), (0.5, "log")])
def test_no_weight_or_space_is_refused(network, weight, space):
    with pytest.raises(ValueError, match="expected a weight in"):
        blend(network, torch.zeros(1, 1), torch.zeros(1, 1), weight, space)
