"""The best images by proof, against the scores of all of them."""

import logging

import pytest
import torch

from caft.model import search
from caft.model.encoding import EncodedCaptions, EncodedImages
from caft.model.scores import blend, part_scores, whole_scores


@pytest.fixture
def gallery(network):
    """200 pictures' features; the query's are near those of picture 0, and some pictures are there twice."""
    generator = torch.Generator().manual_seed(0)
    part = torch.randn(200, 8, 64, generator=generator)
    whole = torch.nn.functional.normalize(torch.randn(200, 64, generator=generator), dim=-1)
    for copy, source in ((17, 0), (150, 3), (151, 3)):
        part[copy], whole[copy] = part[source], whole[source]
    query = torch.nn.functional.normalize(
        whole[:1] + whole[3:4] + 0.1 * torch.randn(1, 64, generator=generator), dim=-1
    )
    chunks = part[:1, :4] + torch.randn(1, 4, 64, generator=generator)
    return EncodedImages(whole, part), EncodedCaptions(query, chunks, 0, 0, 4, 8, 8)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_they_are_the_best_of_all(network, gallery, weight, k):
    (whole, part), (query, chunks) = (gallery[0].whole, gallery[0].part), (gallery[1].whole, gallery[1].parts)
    best, scores, done = search.best_images(network, whole, part, query, chunks, k, weight)
    every = blend(network, whole_scores(network, whole, query), part_scores(network, part, chunks), weight)[:, 0]
    assert best.tolist() == every.argsort(descending=True, stable=True)[:k].tolist()
    torch.testing.assert_close(scores, every[best], atol=1e-5, rtol=0)
    assert done == 200 if weight == 1 else done < 200 or weight == 0.7


def test_most_pictures_are_left_out_where_the_whole_score_tells(network, gallery):
    features = (gallery[0].whole, gallery[0].part, gallery[1].whole, gallery[1].parts)
    assert search.best_images(network, *features, 1, 0.1)[2] <= 64


def test_equal_pictures_tie_and_the_first_comes_first(network, gallery, monkeypatch):
    monkeypatch.setattr(search, "_BLOCK", 1)
    whole, part = gallery[0].whole[[5, 0, 3, 0, 3, 0]], gallery[0].part[[5, 0, 3, 0, 3, 0]]
    best, scores, _ = search.best_images(network, whole, part, gallery[1].whole, gallery[1].parts, 3, 0.3)
    assert best.tolist() == [1, 3, 5] and len(set(scores.tolist())) == 1


@pytest.mark.parametrize("count", [129, 130, 131, 133, 143, 147])
def test_equal_pictures_tie_wherever_they_stand(network, count):
    """A product of matrices sums its last rows in another order, which their scores must not show."""
    generator = torch.Generator().manual_seed(0)
    whole, *queries = torch.nn.functional.normalize(torch.randn(9, 64, generator=generator), dim=-1).split(1)
    part = torch.randn(1, 8, 64, generator=generator)
    pictures = (whole.repeat(count, 1), part.repeat(count, 1, 1))
    for query in queries:
        best, scores, _ = search.best_images(network, *pictures, query, part[:, :4], count, 0.3)
        assert best.tolist() == list(range(count)) and len(set(scores.tolist())) == 1


def test_retrieve_says_how_many_it_scored(model, gallery, caplog):
    caplog.set_level(logging.INFO)
    found = model.retrieve(gallery[1], gallery[0], 3, 0.3)
    scores = model.similarity(gallery[0], gallery[1], 0.3)[:, 0]
    assert [match.image for match in found] == scores.argsort(descending=True, stable=True)[:3].tolist()
    assert "of 200 pictures were scored" in caplog.text
    caplog.clear()
    model.retrieve(gallery[1], gallery[0], 51)  # too many of them
    assert not caplog.text
