"""Ties count against a model: one that scores all pairs alike finds nothing, whichever way its scores are formed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from caft.data.sets import load_zero_shot
from caft.eval.scores import certified
from caft.eval.scores.rerank import rerank
from caft.eval.scores.retrieval_sets import score_encoded, score_hits
from caft.eval.scores.zero_shot import score_zero_shot
from caft.model.encoding import EncodedCaptions, EncodedImages
from caft.model.model import Model
from caft.model.scores import blend, part_scores
from caft.network.caft import CAFT
from caft.params import load_params
from caft.params.sets import BenchmarkParams
from tests.data.published import write_imagenet

PAIRS = 41  # more than R@10 and any k below need, and no multiple of what a processor computes at once


@pytest.fixture(scope="module")
def alike(network):
    """Pairs of which all images have one feature, and all captions one: by a model that ignores its input."""
    generator = torch.Generator().manual_seed(0)
    dim = network.config.embed_dim

    def one(*shape, times=PAIRS):
        return torch.randn(1, *shape, generator=generator).repeat(times, *[1] * len(shape))

    images = EncodedImages(F.normalize(one(dim), dim=-1), one(8, dim))
    return images, EncodedCaptions(F.normalize(one(dim), dim=-1), one(4, dim), 0, 0, 4 * PAIRS, PAIRS, PAIRS)


@pytest.fixture(params=["all pairs", "among the best", "certified"])
def settings(request, monkeypatch):
    evaluation = load_params(Path(__file__).parents[2] / "params.yaml").evaluation
    if request.param == "certified":  # as of a set too large for all pairs
        monkeypatch.setattr(certified, "_LEAST_WORK", 0)
        monkeypatch.setattr(certified, "_SAMPLE", 12)
        monkeypatch.setattr(certified, "_MOST_COST", float("inf"))
    return evaluation.model_copy(update={"rerank": 5 if request.param == "among the best" else None})


@pytest.mark.parametrize("truth", [None, np.arange(PAIRS) % 20], ids=["pairs", "several captions"])
def test_a_constant_model_recalls_nothing(network, alike, settings, truth):
    images, captions = alike
    if truth is not None:
        images = EncodedImages(images.whole[:20], images.part[:20])
    entry, curve = score_encoded(network, images, captions, settings, truth)
    found = {name: value for name, value in entry.items() if isinstance(value, dict)}
    assert len(found) == (3 if settings.rerank else 4)
    assert [(name, key) for name, recall in found.items() for key, value in recall.items() if value != 0] == []
    assert all(row["i2t_r1"] == row["t2i_r1"] == 0 for row in curve) and bool(curve) != bool(settings.rerank)
    assert entry["tied_rows"] > 0


class Blind(CAFT):
    """Reads neither pictures nor texts."""

    def image_features(self, pixels):
        return super().image_features(torch.zeros_like(pixels))

    def text_features(self, tokens):
        return super().text_features(torch.ones_like(tokens))


@pytest.fixture(scope="module")
def blind(model):
    network = Blind(model.network.config, chunks=4).eval()
    network.load_state_dict(model.network.state_dict())
    return Model(network, model.card)


def test_a_blind_model_classifies_nothing(blind, tmp_path, monkeypatch):
    monkeypatch.setattr("caft.eval.scores.zero_shot.prompts", lambda name: [f"a photo of a {name}."])
    write_imagenet(tmp_path)
    loaded = load_zero_shot(BenchmarkParams(kind="zero_shot", layout="imagenet", path=str(tmp_path)))
    assert score_zero_shot(blind, loaded, 3)["top1"] == 0  # there are no more than five classes


def test_a_blind_model_hits_nothing_in_the_ablation(blind, small, monkeypatch):
    params, folder = small
    monkeypatch.chdir(folder)
    entries, hits = score_hits(params, blind)
    kinds = {"whole", "conditioned", "blend_0.3", "blend_0.7"}
    assert set(entries["random"]) == {"pairs", *kinds}
    assert all(entries["random"][kind] == {"i2t_r1": 0, "t2i_r1": 0} for kind in kinds)
    assert {places for ways in hits["random"].values() for places in ways.values()} == {"0" * 16}


@pytest.mark.parametrize("k", [1, 3, 5, 8])
def test_all_that_equal_the_kth_are_candidates(network, k):
    generator = torch.Generator().manual_seed(k)
    whole = torch.randint(0, 4, (7, 9), generator=generator).float()  # four values: nearly every k-th has equals
    part, texts = torch.randn(7, 8, 64, generator=generator), torch.randn(9, 2, 64, generator=generator)
    truth = np.array([0, 1, 2, 3, 4, 5, 6, 0, 3])
    (found,) = rerank(network, whole, part, texts, k, [0.5], "logit", truth)
    scores = blend(network, whole, part_scores(network, part, texts), 0.5).tolist()
    rows, more = whole.tolist(), 0

    def place(line, blended, own):
        """Rank of the best of `own` in a row of whole scores, among the k first places and those that share them."""
        nonlocal more
        least = sorted(line, reverse=True)[min(k, len(line)) - 1]
        candidates = [number for number, value in enumerate(line) if value >= least]
        more += len(candidates) > k
        others = [number for number in range(len(line)) if number not in own]
        mine = [blended[number] for number in own if number in candidates]
        return sum(number in candidates and blended[number] >= max(mine) for number in others) if mine else len(others)

    assert found.images.tolist() == [
        place(rows[image], scores[image], [text for text in range(9) if truth[text] == image]) for image in range(7)
    ]
    assert found.texts.tolist() == [
        place([row[text] for row in rows], [row[text] for row in scores], [truth[text]]) for text in range(9)
    ]
    assert more
