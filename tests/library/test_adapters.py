"""open_clip's conventions and CLIP_benchmark's loop, against the evaluation stage's own recall."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader

from caft.adapters.open_clip import create_model_and_transforms, get_tokenizer, load_clip_benchmark
from caft.data.sets import load_retrieval
from caft.errors import ArgumentError, DataError
from caft.eval.scores.retrieval_sets import score_retrieval as score
from tests.peers import peer


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
    return peer("clip_benchmark.metrics.zeroshot_retrieval")


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


@pytest.mark.parametrize("output_dict", [False, True])
def test_called_as_a_whole_it_gives_what_open_clips_models_give(model_file, pictures, output_dict):
    adapter, _, transform = create_model_and_transforms(model_file, output_dict=output_dict)
    images, texts = torch.stack([transform(path) for path in pictures]), get_tokenizer(model_file)(["A cat.", "Nobody"])
    names = ("image_features", "text_features", "logit_scale", "logit_bias")
    expected = (adapter.encode_image(images), adapter.encode_text(texts), adapter.logit_scale.exp(), adapter.logit_bias)
    found = adapter(images, texts)
    assert isinstance(found, dict if output_dict else tuple)
    found = dict(found) if output_dict else dict(zip(names, found, strict=True))
    assert tuple(found) == names
    assert all(value.equal(wanted) for value, wanted in zip(found.values(), expected, strict=True))
    alone = adapter(image=images)
    assert (alone["text_features"] if output_dict else alone[1]) is None


def test_levels_are_understood_in_every_kind_of_number(adapted, pictures):
    adapter, transform, _ = adapted
    images = torch.stack([transform(path) for path in pictures])
    expected = adapter.encode_image(images)
    for kind in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        assert adapter.encode_image(images.to(kind)).equal(expected)
    assert adapter.encode_image(images.numpy()).equal(expected)
    assert transform(np.asarray(Image.open(pictures[0]))).equal(images[0])
    black = torch.zeros(1, 3, 64, 64)
    assert adapter.encode_image(black).equal(adapter.encode_image(black.to(torch.uint8)))


NORMALISED = (torch.rand(2, 3, 64, 64) * 256).floor() / 255 / 0.27 - 1.7


@pytest.mark.parametrize(
    "images, found",
    [
        (torch.linspace(0, 1, 3 * 64 * 64).reshape(1, 3, 64, 64), "torch.float32 from 0 to 1"),  # 0 to 1, of ToTensor
        (torch.rand(1, 3, 64, 64).round(), "torch.float32 from 0 to 1"),  # black and white; 1 may be either
        (torch.full((1, 3, 64, 64), 256.0), "torch.float32 from 256 to 256"),
        (torch.full((1, 3, 64, 64), -1.0), "torch.float32 from -1 to -1"),
        (torch.full((1, 3, 64, 64), torch.nan), "torch.float32 from nan to nan"),
        (NORMALISED.to(torch.bfloat16), "torch.bfloat16 from -1.7"),  # it keeps too few digits to know the level
        (torch.full((1, 3, 64, 64), 7), "torch.int64 from 7 to 7"),
    ],
    ids=["shares", "two values", "too large", "below", "none", "bfloat16", "int64"],
)
def test_numbers_that_may_mean_something_else_are_refused(adapted, images, found):
    with pytest.raises(ArgumentError, match="expected images as the transform gives them") as error:
        adapted[0].encode_image(images)
    assert f"found {found}" in str(error.value) and "take the transform of create_model_and_transforms" in str(
        error.value
    )


def test_other_precisions_are_refused_before_the_weights_are_rounded(model_file, pictures):
    adapter, _, transform = create_model_and_transforms(model_file)
    before = {name: value.clone() for name, value in adapter.state_dict().items()}
    for change in (
        lambda: adapter.half(),
        lambda: adapter.bfloat16(),
        lambda: adapter.double(),
        lambda: adapter.to(torch.float16),
        lambda: adapter.to("cpu", dtype=torch.bfloat16),
    ):
        with pytest.raises(ArgumentError, match=r"the weights cannot be torch\.\w+: .* need float32.* torch.autocast"):
            change()
    assert adapter.float() is adapter and adapter.to("cpu") is adapter
    assert all(value.equal(before[name]) for name, value in adapter.state_dict().items())
    with torch.autocast("cpu", torch.bfloat16):  # the way that the message names
        features = adapter.encode_image(torch.stack([transform(path) for path in pictures]))
    assert features.dtype == torch.float32 and features.isfinite().all()


@pytest.mark.slow
def test_loaders_work_in_processes_that_are_started_afresh(adapted, pictures):
    _, transform, tokenizer = adapted
    # As on macOS and Windows, where what a loader's process needs is pickled.
    loader = DataLoader(pictures, None, collate_fn=transform, num_workers=1, multiprocessing_context="spawn")
    assert torch.stack(list(loader)).equal(torch.stack([transform(path) for path in pictures]))
    assert pickle.loads(pickle.dumps(tokenizer))(["A cat. It sleeps."]).equal(tokenizer(["A cat. It sleeps."]))


def test_what_another_preprocessing_gave_is_refused(adapted):
    adapter, _, tokenizer = adapted
    with pytest.raises(
        ArgumentError, match=r"\(B, 3, 64, 64\); found torch.float32 \(1, 3, 224, 224\); the transform is"
    ):
        adapter.encode_image(torch.zeros(1, 3, 224, 224))
    with pytest.raises(ValueError, match=r"found torch.uint8 \(1, 3, 224, 224\)"):
        adapter.encode_image(torch.zeros(1, 3, 224, 224, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"\(B, 3, 64, 64\); found torch.uint8 \(2, 64, 64, 3\)"):
        adapter.encode_image(np.zeros((2, 64, 64, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r"\(texts, sub-captions, 77\); found shape \(2, 77\); take get_tokenizer of caft"
    ):
        adapter.encode_text(torch.zeros(2, 77, dtype=torch.int64))
    with pytest.raises(DataError, match="has no sentence"):
        tokenizer(["A cat", ""])
