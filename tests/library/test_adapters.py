"""open_clip's conventions and CLIP_benchmark's loop, against the evaluation stage's own recall."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from caft.adapters.open_clip import create_model_and_transforms, get_tokenizer, load_clip_benchmark
from caft.data.sets import load_retrieval
from caft.errors import DataError
from caft.eval.scores.retrieval_sets import score_retrieval as score


@pytest.fixture(scope="module")
def adapted(model_file):
    return load_clip_benchmark("any", str(model_file), cache_dir=None, device="cpu")


def recall_as_clip_benchmark(adapted, pictures, captions, k):
    """R@k of both directions, pair by pair: the match is among the k largest cosines of its query.

    Calls the model as CLIP_benchmark's retrieval does: transformed pictures stacked in batches, each with its captions
    tokenized together, features normalised again.
    """
    model, transform, tokenizer = adapted
    images, texts = [], []
    for first in range(0, len(pictures), 5):
        batch = range(first, min(first + 5, len(pictures)))
        stacked = torch.stack([transform(Image.open(pictures[i])) for i in batch])
        with torch.no_grad():
            images.append(F.normalize(model.encode_image(stacked), dim=-1))
            texts.append(F.normalize(model.encode_text(tokenizer([captions[i] for i in batch])), dim=-1))
    cosines = (torch.cat(texts) @ torch.cat(images).T).numpy()
    found = {}
    for name, rows in (("t2i", cosines), ("i2t", cosines.T)):
        hits = [query in np.argsort(-row, kind="stable")[:k] for query, row in enumerate(rows)]
        found[f"{name}_r{k}"] = 100 * sum(hits) / len(hits)
    return found


@pytest.mark.parametrize("name", ["random", "look_alike"])
def test_recall_is_the_evaluation_stages(adapted, model, small, monkeypatch, name):
    params, folder = small
    monkeypatch.chdir(folder)
    benchmark = load_retrieval(params.benchmarks[name])
    entry, _ = score(model, benchmark, params.evaluation)
    assert entry["tied_rows"] == 0  # else the two might count ties differently
    for k in (1, 5):
        theirs = recall_as_clip_benchmark(adapted, benchmark.images, benchmark.captions, k)
        assert theirs == pytest.approx({key: entry["whole"][key] for key in theirs})


@pytest.fixture(scope="module")
def clip_benchmark():
    """CLIP_benchmark's metric by its file: the package imports more than this project has (torchvision, open_clip)."""
    found = importlib.util.find_spec("clip_benchmark")  # imports nothing of it
    if found is None:
        pytest.skip(
            "CLIP_benchmark is not installed; pip install --no-deps clip-benchmark, which needs nothing more here"
        )
    path = Path(found.submodule_search_locations[0]) / "metrics/zeroshot_retrieval.py"
    specification = importlib.util.spec_from_file_location("zeroshot_retrieval", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["random", "look_alike"])
def test_clip_benchmarks_own_metric_gives_the_same_recall(clip_benchmark, adapted, model, small, monkeypatch, name):
    params, folder = small
    monkeypatch.chdir(folder)
    benchmark = load_retrieval(params.benchmarks[name])
    entry, _ = score(model, benchmark, params.evaluation)
    adapter, transform, tokenizer = adapted
    pairs = list(zip(benchmark.images, benchmark.captions, strict=True))
    batches = [
        (torch.stack([transform(Image.open(image)) for image, _ in batch]), [[caption] for _, caption in batch])
        for batch in (pairs[first : first + 5] for first in range(0, len(pairs), 5))
    ]
    theirs = clip_benchmark.evaluate(adapter, batches, tokenizer, "cpu", amp=False, recall_k_list=[1, 5])
    for k in (1, 5):
        assert 100 * theirs[f"image_retrieval_recall@{k}"] == pytest.approx(entry["whole"][f"t2i_r{k}"], abs=1e-4)
        assert 100 * theirs[f"text_retrieval_recall@{k}"] == pytest.approx(entry["whole"][f"i2t_r{k}"], abs=1e-4)


def test_features_are_the_librarys(adapted, model, pictures):
    adapter, transform, tokenizer = adapted
    texts = ["A red cat on a mat. It sleeps.", "Nobody"]
    images = torch.stack([transform(path) for path in pictures])
    torch.testing.assert_close(adapter.encode_image(images), model.encode_image(pictures))
    torch.testing.assert_close(adapter.encode_text(tokenizer(texts), normalize=True), model.encode_text(texts))
    cosines = adapter.encode_image(images) @ adapter.encode_text(tokenizer(texts)).T
    whole = model.similarity(pictures, texts, part_weight=0)
    torch.testing.assert_close(adapter.logit_scale.exp() * cosines, whole, atol=1e-4, rtol=1e-4)
    assert adapter.logit_bias.item() == pytest.approx(-10)


def test_the_conventions_are_open_clips(model_file, pictures):
    adapter, train, evaluation = create_model_and_transforms(model_file)
    tokenizer = get_tokenizer(model_file)
    assert train(pictures[0]).equal(evaluation(Image.open(pictures[0]))) and not adapter.training
    assert tokenizer("One. Two. Three.").shape == (1, 4, 77) and tokenizer(["One"], context_length=9).shape == (1, 4, 9)
    assert list(adapter.parameters()) and adapter.to("cpu") is adapter


def test_what_another_preprocessing_gave_is_refused(adapted):
    adapter, _, tokenizer = adapted
    with pytest.raises(ValueError, match=r"uint8 \(B, 3, 64, 64\); found torch.float32 \(1, 3, 64, 64\)"):
        adapter.encode_image(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match=r"found torch.uint8 \(1, 3, 224, 224\)"):
        adapter.encode_image(torch.zeros(1, 3, 224, 224, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"\(texts, sub-captions, 77\); found shape \(2, 77\)"):
        adapter.encode_text(torch.zeros(2, 77, dtype=torch.int64))
    with pytest.raises(DataError, match="has no sentence"):
        tokenizer(["A cat", ""])
