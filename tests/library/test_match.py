"""The match of a sentence with a picture: its logit computed apart, its percentile counted, what is said of both."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from caft.captions.tokenizer import tokenize
from caft.errors import ArgumentError, CheckpointError, DataError
from caft.model.drawing import lettering, panels
from caft.model.drawing.figures import PREDICTION
from caft.model.drawing.lettering import drawable, font_of, text_width, wrapped
from caft.model.match import GENERAL_SENTENCES, SentenceMatch, percentiles
from caft.transforms import open_image, squash
from caft.weights.files import read_card

REFERENCES = ["A dog on a beach.", "A red lamp.", "Two people walk.", "Snow."]
TRUE = SentenceMatch("A cat.", 2.0, 0.88, 97.0)
FALSE = SentenceMatch("asdfgh qwerty", -6.0, 0.002, 30.0)


def logit_by_hand(model, picture, text):
    """Cosine of the text with what it pools of the segments, times the scale, plus the bias."""
    network = model.network
    features = network.image_features(squash(open_image(picture), network.image_size)[None])
    asked = network.sub_caption_features(tokenize([text]))
    pooled = network.pool(asked[None], features.part)[0][0, 0].detach().double().numpy()
    query = asked[0].detach().double().numpy()
    cosine = pooled @ query / np.linalg.norm(pooled) / np.linalg.norm(query)
    return math.exp(float(network.part_log_scale.detach())) * cosine + float(network.part_bias.detach())


def test_a_match_is_the_part_logit_and_its_rank_among_references_counted_one_by_one(model, photographs):
    cat = photographs / "cat.png"
    found = model.match(cat, "A cat with green eyes. Its nose is pink.", REFERENCES)
    assert [match.text for match in found] == model.sentences("A cat with green eyes. Its nose is pink.")
    others = [logit_by_hand(model, cat, text) for text in REFERENCES]
    for match in found:
        logit = logit_by_hand(model, cat, match.text)
        assert match.logit == pytest.approx(logit, abs=1e-4)
        assert match.probability == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-4)
        assert match.percentile == 100 * sum(other < logit for other in others) / len(others)


def test_a_reference_that_is_the_sentence_counts_half(model, photographs):
    (match,) = model.match(photographs / "cat.png", ["Snow."], ["Snow."])
    assert match.percentile == 50
    assert percentiles([0.0, 1.0, 1.5, 9.0], [1.0, 2.0, 1.0, 3.0]).tolist() == [0, 25, 50, 100]


def test_the_cards_references_come_before_the_general_ones(model, photographs):
    from dataclasses import replace

    cat = photographs / "cat.png"
    assert not model.card.references
    assert model.match(cat, "A cat.") == model.match(cat, "A cat.", GENERAL_SENTENCES)
    kept = replace(model, card=model.card.model_copy(update={"references": tuple(REFERENCES)}))
    assert kept.match(cat, "A cat.") == model.match(cat, "A cat.", REFERENCES)


def test_a_look_is_match_and_ground_to_the_bit(model, photographs):
    text = "A cat with green eyes. Its nose is pink."
    for references, size in ((REFERENCES, (20, 30)), (None, None)):
        matches, maps = model.look(photographs / "cat.png", text, references, size)
        assert matches == model.match(photographs / "cat.png", text, references)
        assert np.array_equal(maps, model.ground(photographs / "cat.png", text, size))


def test_references_are_given_as_texts_are(model, photographs):
    cat = photographs / "cat.png"
    expected = model.match(cat, "A cat.", REFERENCES)
    for given in (
        " ".join(REFERENCES[:2]) + "\n" + "\n".join(REFERENCES[2:]),
        np.array(REFERENCES),
        pd.Series(REFERENCES),
    ):
        assert model.match(cat, "A cat.", given) == expected


@pytest.mark.parametrize(
    ("references", "words"),
    [
        ("", "has no sentence"),
        (" . ", "has no sentence"),
        ([], "no references were given"),
        (["A dog.", "."], r"reference 1: the text '.' has no sentence"),
        (["A dog.", None], "reference 1: expected a text"),
        ([b"A"], "reference 0: expected a text"),
        ({"A dog.": 1}, "references: expected a text, or several; found dict"),
        ({"A dog."}, "found set"),
        (3, "found int"),
        (Path("a.txt"), "found .*Path"),
    ],
)
def test_references_that_are_no_texts_are_named(model, photographs, references, words):
    with pytest.raises((ArgumentError, DataError), match=words):
        model.match(photographs / "cat.png", "A cat.", references)


@pytest.mark.parametrize("references", [["A dog.", ""], ["A dog.", "."]])
def test_a_cards_references_have_words(model, tmp_path, references):
    (tmp_path / "model.json").write_text(json.dumps({**model.card.record(), "references": references}))
    with pytest.raises(CheckpointError, match="references: .*reference 1 has no word"):
        read_card(tmp_path / "model.safetensors")


def test_extreme_logits_are_probabilities_without_warning():
    from caft.model.match import probability

    with np.errstate(all="raise"):
        assert probability([-700.0, 0.0, 700.0]) == pytest.approx([0, 0.5, 1], abs=1e-12)


def test_a_match_with_nothing_to_ask_or_to_rank_among_is_an_error(model, photographs):
    for arguments in (([], REFERENCES), (["A cat."], [])):
        with pytest.raises(DataError, match="give (some|at least one)"):
            model.match(photographs / "cat.png", *arguments)


@pytest.mark.parametrize(
    ("probability", "percentile", "borne_out"), [(0.2, 50, True), (0.19, 99, False), (0.9, 49, False)]
)
def test_a_sentence_is_borne_out_above_both_limits(probability, percentile, borne_out):
    assert SentenceMatch("A cat.", 0.0, probability, percentile).borne_out is borne_out


def test_maps_of_another_size_are_those_of_the_picture_scaled(model, photographs):
    cat = photographs / "cat.png"
    full, small = model.ground(cat, "A cat."), model.ground(cat, "A cat.", size=(30, 45))
    assert small.shape == (1, 30, 45) and small.dtype == np.float32
    assert full.shape[1:] == Image.open(cat).size[::-1]
    nearby = full[0][np.ix_((np.arange(30) * 10 + 5), (np.arange(45) * 10 + 5))]
    assert np.corrcoef(nearby.ravel(), small[0].ravel())[0, 1] > 0.97


# ---------------------------------------------------------------------- the sheet


@pytest.fixture
def colourful():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))


def is_grey(picture):
    return not np.ptp(np.asarray(picture, int), axis=2).any()


def test_a_false_sentences_mask_is_grey_and_said_to_be(colourful):
    values = np.zeros((60, 90), np.float32)
    values[10:30, 20:50] = 0.4
    (heading, true), (false_heading, false), (_, (together, _)) = panels.looks(
        colourful, [TRUE, FALSE], [values, values.T[::-1].copy().reshape(60, 90)]
    )
    assert heading == "A cat.\nmatch 88 %, above 97 % of the reference sentences"
    assert false_heading.endswith(
        "match under 1 %, above 30 % of the reference sentences: not borne out by the picture"
    )
    assert true[1].scale == pytest.approx((0, 0.4))
    mask = np.asarray(true[2].picture)
    assert (mask[15:25, 25:45] == np.asarray(colourful)[15:25, 25:45]).all() and (mask == PREDICTION).all(2).any()
    assert is_grey(false[2].picture) and "not borne out" in false[2].caption and true[2].caption == "mask"
    # In the picture of all, only the true one's mask has a colour.
    shown = np.ptp(np.asarray(together.picture, int), axis=2) > 0
    assert shown[11:29, 21:49].all() and not shown[:8].any() and not shown[:, 55:].any()


def test_one_sentence_needs_no_picture_of_all(colourful):
    assert len(panels.looks(colourful, [TRUE], [np.eye(60, 90, dtype=np.float32)])) == 1


def test_no_line_is_wider_than_its_picture():
    for width in (90, 288, 640):
        font = font_of(width)
        for text in (
            "WWWW MMMM WWWW " * 9,
            "w" * 300,
            "a_very_long_file_name_" * 9 + ".jpg",
            "Ein Kätzchen schläft " * 9,
        ):
            lines = wrapped(text, width, font)
            assert max(text_width(line, font) for line in lines) <= width
            assert "".join("".join(lines).split()) == "".join(text.split())
    assert wrapped("", 90, font_of(90)) == []


@pytest.mark.parametrize("system", [True, False], ids=["a font of the system", "Pillow's alone"])
def test_no_letter_is_drawn_as_an_empty_box(monkeypatch, system):
    if not system:
        monkeypatch.setattr(lettering, "_of_system", lambda size: None)
    font = font_of(288)
    box = bytes(font.getmask("\uffff"))
    for text in ("Kätzchen schläft, groß", "café \udce9 naïve", "猫 кот", "plain"):
        known, chosen = drawable(text, font)
        missing = bytes(chosen.getmask("\uffff"))
        assert all(bytes(chosen.getmask(letter)) != missing for letter in known if letter != " ")
    if not system:
        assert drawable("Kätzchen groß, naïve 猫", font) == ("Katzchen gross, naive ?", font)
    assert box and drawable("plain", font) == ("plain", font)
