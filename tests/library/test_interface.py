"""What `import caft` gives: the model's methods against the evaluation's scores, and against pairs taken one by one."""

import doctest
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import caft
from caft.captions.sentences import split
from caft.data.sets import load_retrieval
from caft.errors import ArgumentError, DataError
from caft.eval.scores.referring import score_expressions
from caft.eval.scores.retrieval import recall_at_k
from caft.eval.scores.retrieval_sets import score_retrieval as score
from caft.model import model as user_model
from caft.params import load_params
from caft.weights.files import save_model

CAPTIONS = [
    "A dog.",
    "A red cat on a mat. It sleeps. The mat is green.",
    "One. Two. Three. Four. Five. Six. Seven. Eight. Nine. Ten. Eleven. Twelve. Thirteen.",
    "Flat colours, lines, no people",
]


@pytest.fixture(scope="module")
def scores(model, pictures):
    return model.similarity(pictures, CAPTIONS)


def test_examples_in_the_docstrings_are_true(model, pictures, tmp_path, monkeypatch):
    shutil.copy(pictures[0], tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(user_model, extraglobs={"model": model}, optionflags=doctest.ELLIPSIS)
    assert found.attempted >= 9 and found.failed == 0


def test_five_lines_from_the_file_to_a_score(model, pictures, scores, tmp_path):
    save_model(model.network, tmp_path / "m.safetensors", model.card)
    loaded = caft.load(tmp_path / "m.safetensors")
    torch.testing.assert_close(loaded.similarity(pictures, CAPTIONS), scores)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("name", ["random", "look_alike"])
def test_similarity_ranks_a_set_as_the_evaluation_stage_does(model, small, monkeypatch, name, weight):
    params, folder = small
    monkeypatch.chdir(folder)
    settings = params.evaluation.model_copy(update={"blend": [weight]})
    benchmark = load_retrieval(params.benchmarks[name])
    entry, _ = score(model, benchmark, settings)
    mine = model.similarity(benchmark.images, benchmark.captions, part_weight=weight)
    assert recall_at_k(mine.numpy()) == entry[f"blend_{weight:g}"]
    if weight == 0:
        assert entry["blend_0"] == entry["whole"]


def test_scores_mix_the_two_levels_logits_without_bias(model, pictures, scores):
    for i, path in enumerate(pictures):
        for t, caption in enumerate(CAPTIONS):
            images, texts = model.encode_images(path), model.encode_captions(caption)
            whole = model.network.whole_scale * (images.whole @ texts.whole.T).item()
            part = model.network.part_logits(images.part, texts.parts[0]).mean().item() - model.network.part_bias.item()
            assert scores[i, t].item() == pytest.approx(0.7 * whole + 0.3 * part, abs=1e-4)


@pytest.mark.parametrize("batch", [1, 2, 5, 64])
def test_batch_size_changes_nothing(model, pictures, batch):
    torch.testing.assert_close(
        model.encode_image(pictures, batch=batch), model.encode_image(pictures, batch=6), atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(
        model.encode_text(CAPTIONS, batch=batch), model.encode_text(CAPTIONS, batch=4), atol=1e-5, rtol=1e-5
    )


def test_order_and_company_change_nothing(model, pictures, scores):
    images, texts = [4, 1, 0, 5], [3, 0, 2]
    picked = model.similarity([pictures[i] for i in images], [CAPTIONS[t] for t in texts])
    torch.testing.assert_close(picked, scores[images][:, texts], atol=1e-4, rtol=1e-4)


def test_encoded_once_or_each_time_is_the_same(model, pictures, scores):
    images, texts = model.encode_images(pictures), model.encode_captions(CAPTIONS)
    torch.testing.assert_close(model.similarity(images, texts), scores)
    assert model.encode_image(images) is images.whole and model.encode_text(texts) is texts.whole


def test_every_form_of_a_picture_is_the_same_picture(model, pictures):
    image = Image.open(pictures[0]).convert("RGB")
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    expected = model.encode_image(pictures[0])
    for form in (str(pictures[0]), pictures[0].read_bytes(), image, pixels, pixels[None], pixels / 255, [pixels]):
        torch.testing.assert_close(model.encode_image(form), expected)
    assert model.encode_image(torch.stack([pixels, pixels])).shape == (2, 64)


def test_retrieve_gives_the_best_first(model, pictures, scores):
    found = model.retrieve(CAPTIONS[1], pictures, k=3)
    column = scores[:, 1]
    assert [match.image for match in found] == column.argsort(descending=True)[:3].tolist()
    assert [match.score for match in found] == pytest.approx(sorted(column.tolist(), reverse=True)[:3], abs=1e-4)
    assert len(model.retrieve(CAPTIONS[1], pictures, k=100)) == 6


def test_maps_are_those_that_the_evaluation_scores(model, scenes):
    """The evaluation's own maps of a set, asked one expression at a time, give its score."""
    from caft.eval.scores.referring import ReferringTally

    benchmark = replace(scenes["phrase"], images=scenes["phrase"].images[:4])
    tally = ReferringTally()
    for image in benchmark.images:
        masks = list(image.masks.values())
        numbers = list(image.masks)
        for expression in image.expressions:
            (values,) = model.ground(image.path, [expression.text])
            tally.add(values, masks, numbers.index(expression.annotation))
    published = score_expressions(model.network, benchmark, batch=3)[0]
    del published["miou_by_level"]
    assert tally.scores() == pytest.approx(published)


def test_each_sentence_of_a_text_asks_alone(model, pictures):
    text = "A red cat on a mat. It sleeps"
    maps = model.ground(pictures[0], text)
    assert maps.shape == (2, 40, 60) and maps.dtype == np.float32
    for number, sentence in enumerate(split(text, "dreamlip")):
        np.testing.assert_allclose(model.ground(pictures[0], [sentence])[0], maps[number], atol=1e-6)


def test_segments_are_nested_and_of_the_pictures_size(model, pictures):
    levels = model.segment(pictures[0])
    assert [labels.shape for labels in levels] == [(40, 60)] * 4
    for fine, coarse in zip(levels, levels[1:], strict=False):
        pairs = set(zip(fine.ravel().tolist(), coarse.ravel().tolist(), strict=True))
        assert len(pairs) == len(np.unique(fine)), "a segment lies in two of the next level"
    assert len(np.unique(levels[-1])) <= 8


@pytest.fixture(scope="module")
def whole_only():
    """A model with no part level, as the ablation's."""
    params = load_params("params.yaml", ["pipelines/ablation/no_part.yaml"])
    torch.manual_seed(0)
    card = caft.ModelCard(splitter="dreamlip", chunks=4, balanced_rule="paper")
    return caft.Model(caft.CAFT(params.selected_model, chunks=4).eval(), card)


def test_a_model_without_parts_scores_whole_and_says_so_else(whole_only, pictures):
    cosines = whole_only.encode_image(pictures) @ whole_only.encode_text(CAPTIONS).T
    scores = whole_only.similarity(pictures, CAPTIONS, part_weight=0)
    torch.testing.assert_close(scores, whole_only.network.whole_scale * cosines, atol=1e-4, rtol=1e-4)
    with pytest.raises(DataError, match=r"no part level: part_weight is 0\.3, and must be 0"):
        whole_only.similarity(pictures, CAPTIONS)
    with pytest.raises(DataError, match="the model has no part level, so no text can ask its image"):
        whole_only.ground(pictures[0], "A cat.")


def test_half_precision_is_autocast_and_weights_stay(model, pictures, scores):
    with torch.autocast("cpu", torch.bfloat16):
        half = model.similarity(pictures, CAPTIONS)
        maps = model.ground(pictures[0], CAPTIONS[1])
    assert half.dtype == torch.float32 and maps.dtype == np.float32
    assert (half - scores).abs().max() < 0.3  # three digits of a cosine, times scales of 4.5 and 12
    other = caft.Model(caft.CAFT(model.network.config, 4).eval().to(torch.bfloat16), model.card)
    with pytest.raises(ValueError, match="the weights are torch.bfloat16; superpixels and scores need float32"):
        other.encode_image(pictures)


# ---------------------------------------------------------------------- what is given, in its forms


@pytest.mark.parametrize("value", [0, -1, 2.5, True, float("nan"), "3", None])
def test_counts_are_whole_numbers_from_1(model, pictures, value):
    encoded = model.encode_images(pictures)
    for name, call in {
        "k": lambda: model.retrieve("A cat.", encoded, k=value),
        "batch": lambda: model.encode_image(pictures, batch=value),
        "batch ": lambda: model.encode_text("A cat.", batch=value),
    }.items():
        with pytest.raises(ArgumentError, match=f"{name.strip()}: expected a whole number from 1, found"):
            call()
    assert len(model.retrieve("A cat.", encoded, k=np.int64(2))) == 2


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf"), True, "0.3", None])
def test_a_part_weight_lies_in_its_range(model, pictures, value):
    for call in (model.similarity, lambda images, text, part_weight: model.retrieve(text, images, 1, part_weight)):
        with pytest.raises(ArgumentError, match="part_weight: expected a number from 0 to 1, found"):
            call(pictures[0], "A cat.", part_weight=value)


def test_texts_of_every_form_are_the_same_texts(model):
    expected = model.encode_text(CAPTIONS)
    frame = pd.DataFrame({"caption": CAPTIONS}, index=[7, 7, 3, 1])
    for form in (tuple(CAPTIONS), np.array(CAPTIONS), np.array(CAPTIONS, object), frame["caption"], (c for c in CAPTIONS),
                 pd.Index(CAPTIONS)):  # fmt: skip
        torch.testing.assert_close(model.encode_text(form), expected)
    for one in (np.str_(CAPTIONS[1]), np.array(CAPTIONS[1])):
        torch.testing.assert_close(model.encode_text(one), expected[1:2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "expected a text, or several; found NoneType"),
        (3, "found int"),
        (b"A cat.", "found bytes"),
        ({"A cat.": 1}, "found dict"),
        ({"A cat."}, "found set"),
        (["A cat.", None], r"text 1: expected a text \(str\), found NoneType"),
        (["A cat.", float("nan")], r"text 1: expected a text \(str\), found float \(nan, a missing value\)"),
        ([["A cat."]], "text 0: expected a text .*found list"),
    ],
)
def test_what_is_no_text_is_named(model, pictures, given, words):
    for call in (model.encode_text, lambda texts: model.ground(pictures[0], texts)):
        with pytest.raises(ArgumentError, match=words):
            call(given)


def test_arrays_are_pictures(model, pictures):
    pixels = np.array(Image.open(pictures[0]).convert("RGB"))
    expected = model.encode_image(Image.fromarray(pixels))
    opaque = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    for form in (pixels, pixels[None], [pixels], pixels / 255, (pixels / 255).astype(np.float32), opaque,
                 np.asfortranarray(pixels)):  # fmt: skip
        torch.testing.assert_close(model.encode_image(form), expected)
    assert model.encode_image(np.stack([pixels, pixels])).shape == (2, 64)
    grey = pixels[:, :, 0]
    expected = model.encode_image(Image.fromarray(grey))
    for form in (grey, grey[:, :, None], grey / 255):
        torch.testing.assert_close(model.encode_image(form), expected)
    mask = grey > 100
    torch.testing.assert_close(model.encode_image(mask), model.encode_image(Image.fromarray(np.uint8(mask) * 255)))
    paths = [str(path) for path in pictures]
    expected = model.encode_image(paths)
    for form in (np.array(paths), pd.Series(paths), (path for path in paths), tuple(paths)):
        torch.testing.assert_close(model.encode_image(form), expected)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"array \(H, W\), \(H, W, 3\) or \(H, W, 4\).*found shape \(3, 8, 8\)"),
        (np.zeros(8, np.uint8), r"found shape \(8,\)"),
        (np.zeros((8, 8), np.int64), "as uint8, or as floats in .0, 1.; found int64"),
        (np.full((8, 8), 255.0), r"must lie in \[0, 1\].*found 255 to 255"),
        (np.full((8, 8), np.nan), r"must lie in \[0, 1\]"),
        (None, "found NoneType"),
        ([None], "found NoneType"),
        ([float("nan")], r"found float \(nan, a missing value\)"),
        ({"a.png": 1}, "found dict"),
        ({"a.png"}, "found set"),
    ],
)
def test_what_is_no_picture_is_named(model, given, words):
    with pytest.raises(ArgumentError, match=words):
        model.encode_image(given)


def test_one_where_one_is_meant(model, pictures):
    torch.testing.assert_close(
        torch.from_numpy(model.ground([pictures[0]], "A cat.")), torch.from_numpy(model.ground(pictures[0], "A cat."))
    )
    assert model.retrieve(["A cat."], pictures) == model.retrieve("A cat.", pictures)
    for call in (lambda: model.ground(pictures[:2], "A cat."), lambda: model.segment(pictures[:2])):
        with pytest.raises(ArgumentError, match="expected one picture, found 2; call the method for each"):
            call()
    for query in (["A cat.", "A dog."], model.encode_captions(["A cat.", "A dog."])):
        with pytest.raises(ArgumentError, match="expected one query, found 2; call retrieve for each"):
            model.retrieve(query, pictures)
    with pytest.raises(ArgumentError, match="expected one text, found 2"):
        model.sentences(["A cat.", "A dog."])


def test_encoded_in_the_wrong_place_is_named(model, pictures):
    images, texts = model.encode_images(pictures[0]), model.encode_captions("A cat.")
    with pytest.raises(ArgumentError, match="pictures: expected .* found EncodedCaptions"):
        model.similarity(texts, images)
    with pytest.raises(ArgumentError, match="texts: expected .* found EncodedImages"):
        model.encode_text(images)
    with pytest.raises(ArgumentError, match="pictures: expected .* found EncodedImages"):
        model.ground(images, "A cat.")
    other = replace(texts, whole=texts.whole[:, :10])
    with pytest.raises(ArgumentError, match="features have 64 numbers and the captions' 10"):
        model.similarity(images, other)


@pytest.mark.parametrize("given", [[], "", ["A cat.", ""], ["  "], ["."]])
def test_a_text_to_look_for_has_words(model, pictures, given):
    with pytest.raises(DataError, match="has no sentence; give words to look for|no texts were given"):
        model.ground(pictures[0], given)


def test_the_package_is_marked_as_typed():
    assert (Path(caft.__file__).parent / "py.typed").exists()
