"""Ranks from some of the part scores, against all pairs one by one in float64, both directions."""

import importlib.util
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from caft.eval.scores import certified
from caft.eval.scores.certified import needed_part_scores
from caft.eval.scores.retrieval import rank
from caft.eval.scores.retrieval_sets import score_encoded
from caft.model.encoding import EncodedCaptions, EncodedImages
from caft.model.part_chunks import ChunkCosines, PairCosines
from caft.model.scores import blend, part_scores
from caft.network.text_pool import TextConditionedPool
from caft.params import load_params

spec = importlib.util.spec_from_file_location("naive", Path(__file__).parents[1] / "reference" / "part_scores.py")
assert spec is not None and spec.loader is not None
naive = importlib.util.module_from_spec(spec)
spec.loader.exec_module(naive)

SPACES = ("logit", "cosine")
WEIGHTS = (0.0, 0.3, 0.7, 1.0)
DIM = 16


class Scorer:
    """What scores need of a network."""

    device = torch.device("cpu")

    def __init__(self, pool):
        self.pool = pool

    def temperature(self, level):
        return torch.tensor(2.5 if level == "whole" else 2.6), torch.tensor(-10.0)


def pooling(heads, seed):
    torch.manual_seed(seed)
    pool = TextConditionedPool(DIM, heads, identity=True).requires_grad_(False)
    for parameter in pool.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return pool


def trained(seed, images=12, captions=15, segments=7, chunks=2):
    """Captions that say what is in their image: each chunk near one of its segments, the whole near their mean."""
    generator = torch.Generator().manual_seed(seed)
    part = 2 * torch.randn(images, segments, DIM, generator=generator)
    owner = torch.cat([torch.arange(images), torch.randint(0, images, (captions - images,), generator=generator)])
    asked = torch.randint(0, segments, (captions, chunks), generator=generator)
    texts = part[owner[:, None], asked] + 0.8 * torch.randn(captions, chunks, DIM, generator=generator)
    seen, read = (torch.nn.functional.normalize(found.mean(1), dim=-1) for found in (part, texts))
    return 12 * seen @ read.T - 10, part, texts, owner.numpy()


def brute_force(network, whole, cosines, truth, weight, space):
    """Ranks and numbers of tied queries, query by query."""
    scale, bias = network.temperature("part")
    scores = blend(network, whole, scale.exp() * cosines + bias, weight, space).tolist()
    images, captions = whole.shape
    ranks, tied = ([], []), [0, 0]
    for image in range(images):
        best = max(scores[image][caption] for caption in range(captions) if truth[caption] == image)
        others = [scores[image][caption] for caption in range(captions) if truth[caption] != image]
        ranks[0].append(sum(other >= best for other in others))
        tied[0] += best in others
    for caption in range(captions):
        own = scores[truth[caption]][caption]
        others = [scores[image][caption] for image in range(images) if image != truth[caption]]
        ranks[1].append(sum(other >= own for other in others))
        tied[1] += own in others
    return (*ranks, *tied)


def agree(network, sets, weights=WEIGHTS):
    """The ranks of all blends, found together, are those of part scores in float64, rounded once."""
    whole, part, texts, truth = sets
    cosines = torch.tensor(naive.mean_cosines(network.pool, part, texts)).float()
    blends = [(weight, space) for space in SPACES for weight in weights]
    found = needed_part_scores(network, whole, part, texts, blends, truth)
    for weight, space in blends:
        ranking = rank(blend(network, whole, found.scores, weight, space).numpy(), truth)
        mine = ranking.images.tolist(), ranking.texts.tolist(), ranking.tied_images, ranking.tied_texts
        assert mine == brute_force(network, whole, cosines, truth, weight, space), (weight, space)
    return found


@pytest.fixture
def bounded(monkeypatch):
    """Bounds are used however small the set is and whatever they give."""
    monkeypatch.setattr(certified, "_LEAST_WORK", 0)
    monkeypatch.setattr(certified, "_SAMPLE", 2)
    monkeypatch.setattr(certified, "_MOST_COST", float("inf"))


@pytest.mark.parametrize("heads", [1, 4])  # the Gram form (7 < 16 numbers) and the pooled one
@pytest.mark.parametrize("seed", range(3))
def test_ranks_are_those_of_all_pairs(bounded, heads, seed):
    found = agree(Scorer(pooling(heads, seed)), trained(seed))
    assert 0 < found.pairs < 0.8 * 12 * 15  # some were dropped, and some were not


def test_a_smaller_part_weight_needs_fewer_pairs(bounded):
    shares = [agree(Scorer(pooling(4, 0)), trained(0), [weight]).share for weight in (0.0, 0.3, 0.7, 1.0)]
    assert shares == sorted(set(shares)) and shares[0] == 0


def test_features_that_were_not_trained(bounded):
    generator = torch.Generator().manual_seed(0)
    part, texts = torch.randn(9, 6, DIM, generator=generator), torch.randn(9, 2, DIM, generator=generator)
    agree(Scorer(pooling(2, 1)), (12 * torch.rand(9, 9, generator=generator) - 10, part, texts, np.arange(9)))


def adversarial(kind, seed):
    whole, part, texts, truth = trained(seed)
    if kind == "equal images":
        part[3], part[5], whole[3], whole[5] = part[2], part[2], whole[2], whole[2]
    elif kind == "equal captions":
        for copy, source in ((4, 1), (9, 1)):
            texts[copy], whole[:, copy] = texts[source], whole[:, source]
    elif kind == "all equal":
        whole, part, texts = whole[:1, :1].expand_as(whole), part[:1].expand_as(part), texts[:1].expand_as(texts)
        whole, part, texts = whole.clone(), part.clone(), texts.clone()
    elif kind == "zero segments":
        part[2], part[6, 1:], part[7] = 0, 0, part[7, :1]
    elif kind == "zero texts":
        texts[2], texts[5, 1] = 0, 0
    elif kind == "near ties":
        part[3], whole[3] = part[2] * (1 + 1e-7), whole[2]
        part[5], whole[5] = part[2] + 1e-7 * torch.randn(part[2].shape), whole[2]
        texts[4], whole[:, 4] = texts[1] + 1e-7 * torch.randn(texts[1].shape), whole[:, 1]
    elif kind == "one whole score":
        whole[:] = -4.0
    elif kind == "large features":
        part, texts = 1e4 * part, 1e-4 * texts
    return whole, part, texts, truth


KINDS = (
    "equal images", "equal captions", "all equal", "zero segments", "zero texts", "near ties", "one whole score",
    "large features",
)  # fmt: skip


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_what_rounding_might_decide(bounded, heads, kind):
    agree(Scorer(pooling(heads, 7)), adversarial(kind, 7))


def test_heads_that_cancel(bounded):
    """The pooled feature is some thousandth of its parts, which the norm by a quadratic form cannot tell."""
    pool = pooling(2, 3)
    half = DIM // 2
    pool.value.weight[half:], pool.value.bias[half:] = pool.value.weight[:half], pool.value.bias[:half]
    pool.query.weight[half:], pool.query.bias[half:] = pool.query.weight[:half], pool.query.bias[:half]
    pool.key.weight[half:], pool.key.bias[half:] = pool.key.weight[:half], pool.key.bias[:half]
    pool.out.weight[:, half:] = -pool.out.weight[:, :half] + 1e-3 * torch.randn(DIM, half)
    pool.out.bias.zero_()
    agree(Scorer(pool), trained(3))


@pytest.mark.parametrize("kind", [None, "zero segments", "zero texts", "large features"])
@pytest.mark.parametrize("heads, segments", [(1, 7), (4, 7), (8, 12)])
def test_cosines_of_a_chunk_are_within_their_errors(heads, segments, kind):
    _, part, texts, _ = adversarial(kind, 5) if kind else trained(5, segments=segments)
    pool, numbers = pooling(heads, 5), torch.tensor([7, 0, 11])
    cosines = ChunkCosines(pool, texts)
    cosines.reorder(torch.tensor([[1, 0]]).expand(len(texts), -1))
    exact = naive.mean_cosines(pool, part, texts[numbers, 1:])
    for row, image in enumerate(part):
        found, error = cosines.of_chunk(cosines.prepared(image), numbers, 0)
        assert (np.abs(found.double().numpy() - exact[row]) <= error.double().numpy()).all()
        assert kind or error.max() < 1e-3


@pytest.mark.parametrize("kind", [None, *KINDS])
@pytest.mark.parametrize("heads, segments", [(4, 7), (8, 12)])
def test_no_cosine_of_a_chunk_exceeds_its_bound(heads, segments, kind):
    _, part, texts, _ = adversarial(kind, 5) if kind else trained(5, segments=segments)
    pool, numbers = pooling(heads, 5), torch.tensor([7, 0, 11])
    cosines = ChunkCosines(pool, texts)
    for chunk in range(2):
        exact = naive.mean_cosines(pool, part, texts[:, chunk : chunk + 1])
        for row, image in enumerate(part):
            for captions in (numbers, torch.arange(15)):  # some are copied, and all are read where they lie
                most = cosines.most_of_chunk(cosines.prepared(image), captions, chunk)
                assert (most.double().numpy() >= exact[row][captions]).all() and (most <= 1 + 2e-7).all()


def test_bounds_leave_few_cosines_to_compute(bounded):
    """Where an eighth of the directions hold most of a pooled feature, whatever the weight."""
    pool = pooling(4, 0)
    strong = torch.linalg.qr(torch.randn(DIM, 2))[0]
    pool.out.weight.copy_(strong @ strong.T @ pool.out.weight + 0.05 * pool.out.weight)
    found = agree(Scorer(pool), trained(0), [1.0])
    assert 0 < found.pairs < found.bounds < 12 * 15


def test_pairs_in_float64_are_those_of_the_reference():
    _, part, texts, _ = trained(2)
    pool = pooling(4, 2)
    single = PairCosines(pool)
    found = torch.stack([single.of(segments, texts) for segments in part])
    assert torch.equal(found, torch.tensor(naive.mean_cosines(pool, part, texts)).float())
    assert pool.out.weight.dtype == torch.float32  # a copy was made


def test_a_small_set_is_scored_whole_as_before():
    sets = trained(0)
    network = Scorer(pooling(4, 0))
    found = needed_part_scores(network, *sets[:3], [(0.3, "logit")], sets[3])
    assert torch.equal(found.scores, part_scores(network, *sets[1:3]))
    assert found.pairs == 12 * 15 and found.share == 1


def test_where_bounds_give_no_hold_all_pairs_are_scored_and_it_is_said(monkeypatch, caplog):
    monkeypatch.setattr(certified, "_LEAST_WORK", 0)
    monkeypatch.setattr(certified, "_SAMPLE", 4)
    caplog.set_level(logging.INFO)
    generator = torch.Generator().manual_seed(0)
    part, texts = torch.randn(9, 6, DIM, generator=generator), torch.randn(9, 2, DIM, generator=generator)
    network, whole = Scorer(pooling(2, 1)), torch.full((9, 9), -4.0)
    found = needed_part_scores(network, whole, part, texts, [(1.0, "logit")])
    assert torch.equal(found.scores, part_scores(network, part, texts)) and found.share == 1
    assert "all 81 pairs are scored" in caplog.text


def test_a_score_that_is_no_number_is_found(bounded):
    whole, part, texts, truth = trained(1)
    part[3, 2] = torch.nan
    network = Scorer(pooling(4, 0))
    found = needed_part_scores(network, whole, part, texts, [(0.3, "logit")], truth)
    with pytest.raises(ValueError, match="are NaN"):
        rank(blend(network, whole, found.scores, 0.3).numpy(), truth)


@pytest.mark.parametrize("segments", [8, 80])  # the Gram form and the pooled one
def test_the_stage_publishes_the_same(bounded, network, monkeypatch, segments):
    """All scores and both curves of a set, by some of the pairs and by all."""
    generator = torch.Generator().manual_seed(4)
    part, owner = torch.randn(10, segments, 64, generator=generator), np.array([*range(10), 3, 3, 7])
    parts = part[owner, :4] + 0.5 * torch.randn(13, 4, 64, generator=generator)
    whole, read = (torch.nn.functional.normalize(found.mean(1), dim=-1) for found in (part, parts))
    images, captions = EncodedImages(whole, part), EncodedCaptions(read, parts, 0, 0, 52, 99, 99)
    settings = load_params("params.yaml").evaluation
    found = score_encoded(network, images, captions, settings, owner)
    monkeypatch.setattr(certified, "_LEAST_WORK", 2**40)
    assert found == score_encoded(network, images, captions, settings, owner)
    assert len(found[1]) == 22 and found[0]["part"]["i2t_r1"] > 0
