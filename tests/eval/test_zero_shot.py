"""Zero-shot classes against a plain loop, and the sentences against a digest of the published list."""

import hashlib

import pytest
import torch

from caft.captions.tokenizer import tokenize
from caft.data.sets import ZeroShotSet, load_zero_shot
from caft.eval.scores.zero_shot import class_features, prompts, score_zero_shot
from caft.model.encoding import encode_cropped
from caft.params.sets import BenchmarkParams
from tests.data.published import write_imagenet

# Of the 80 templates of OpenAI's notebook "Prompt_Engineering_for_ImageNet", sorted, a line each.
DIGEST = "a8a4822f2921936e2ef07cf2e7a5df69be9532aab2f3f4880156bb03563e2467"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imagenet")
    write_imagenet(folder)
    return load_zero_shot(BenchmarkParams(kind="zero_shot", layout="imagenet", path=str(folder)))


def test_the_sentences_are_those_of_clips_authors():
    texts = prompts("{}")
    assert len(texts) == len(set(texts)) == 80
    assert hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest() == DIGEST
    assert "a photo of a St. Bernard dog." in prompts("St. Bernard dog")


@pytest.fixture
def two(monkeypatch):
    """Two sentences for a class instead of eighty, since nothing but the time depends on their number."""
    monkeypatch.setattr(
        "caft.eval.scores.zero_shot.prompts", lambda name: [f"a photo of a {name}.", f"the plastic {name}."]
    )


def test_a_class_is_the_mean_of_its_sentences(model):
    name = "St. Bernard dog"
    (feature,) = class_features(model, [name], 33)
    rows = tokenize(prompts(name))
    whole, _ = model.network.text_features(
        torch.stack([torch.stack([row] * 4) for row in rows])
    )  # every chunk is the sentence
    total = sum(row.double() for row in whole)
    assert torch.allclose(feature.double(), total / total.norm(), atol=1e-6)


def test_top_1_and_top_5_count_as_a_person_would(model, found, two, monkeypatch):
    monkeypatch.setattr("caft.eval.scores.zero_shot._IMAGES_AT_ONCE", 4)
    scores = score_zero_shot(model, found, 4)
    classes = class_features(model, found.classes, 64)
    images = encode_cropped(model.network, found.images, 8).whole
    hits = 0
    for image, label in zip(images, found.labels, strict=True):
        cosines = [float(image @ feature) for feature in classes]
        hits += all(cosines[label] > other for number, other in enumerate(cosines) if number != label)
    assert scores == {"top1": pytest.approx(100 * hits / 6), "top5": 100.0, "images": 6, "classes": 3}
    assert 0 < hits < 6, "the case is one that could go wrong"


def test_classes_that_cannot_be_told_apart_are_misses(model, found, two):
    same = ZeroShotSet(found.images, found.labels, ["tench", "tench ", " tench"])  # which are the same tokens
    assert score_zero_shot(model, same, 64)["top1"] == 0


def test_of_classes_with_one_name_the_first_is_ranked_first(model, found, two):
    """As a stable order over all classes would, which `topk` gives where the scores are equal."""
    names = ["tench", "goldfish", "tench", "tench"]
    images, labels = found.images[:4], [0, 1, 2, 3]
    scores = score_zero_shot(model, ZeroShotSet(images, labels, names), 64)
    features = class_features(model, names, 64)
    ranks = []
    for image, label in zip(encode_cropped(model.network, images, 8).whole, labels, strict=True):
        cosines = [round(float(image @ feature), 5) for feature in features]
        ranks.append(sorted(range(4), key=lambda number: (-cosines[number], number)).index(label))
    assert scores["top1"] == 25.0 * sum(rank == 0 for rank in ranks) and scores["same_name"] == 2
    assert ranks[2] > 0 and ranks[3] > ranks[2] - 1 and scores["top5"] == 100.0
