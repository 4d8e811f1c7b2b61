"""Texts and pictures of every odd kind: a defined result, or one clear error."""

import io
import logging
import re

import numpy as np
import pytest
import torch
from PIL import Image

from caft.captions.tokenizer import tokenize
from caft.errors import DataError


def numbered(count):
    return " ".join(f"Thing number {number} is red." for number in range(count))


def chunk_features(model, chunks):
    """Features of given chunks, without splitting."""
    whole, parts = model.network.text_features(tokenize(chunks)[None])
    return whole[0], parts[0]


def thing(first, last):
    return ". ".join(f"Thing number {number} is red" for number in range(first, last))


@pytest.mark.parametrize(
    ("count", "ends"),
    [
        (1, [(0, 1)] * 4),
        (3, [(0, 1), (1, 2), (2, 3), (0, 1)]),
        (4, [(0, 1), (1, 2), (2, 3), (3, 4)]),
        (12, [(0, 3), (3, 6), (6, 9), (9, 12)]),
        (13, [(0, 4), (4, 7), (7, 10), (10, 13)]),
        (60, [(0, 15), (15, 30), (30, 45), (45, 60)]),
    ],
)
def test_any_number_of_sentences_fills_four_chunks(model, count, ends, caplog):
    with caplog.at_level(logging.WARNING):
        encoded = model.encode_captions(numbered(count))
    whole, parts = chunk_features(model, [thing(*end) for end in ends])
    torch.testing.assert_close(encoded.whole[0], whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(encoded.parts[0], parts, atol=1e-5, rtol=1e-5)
    # Fifteen sentences of seven tokens do not fit 77 places, and that is said.
    assert (encoded.cut_chunks > 0) == (count == 60) == ("longer than 77 tokens and were cut" in caplog.text)


@pytest.mark.parametrize("text", ["", "   ", "\n\n", ".", "</s>"])
def test_a_text_without_a_sentence_is_named(model, text):
    with pytest.raises(DataError, match=r"caption 1: the text .* has no sentence; give words to look for"):
        model.encode_text(["A cat.", text])
    with pytest.raises(DataError, match="has no sentence"):
        model.ground(Image.new("RGB", (8, 8)), text)


@pytest.mark.parametrize("word", ["word ", "x"])
def test_ten_thousand_characters_without_a_full_stop_are_one_sentence_cut(model, word, caplog):
    text = (word * 10_000)[:10_000].strip()
    with caplog.at_level(logging.WARNING):
        encoded = model.encode_captions(text)
    assert "4 of 4 chunks are longer than 77 tokens" in caplog.text
    whole, parts = chunk_features(model, [text] * 4)
    torch.testing.assert_close(encoded.whole[0], whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(encoded.parts[0], parts, atol=1e-5, rtol=1e-5)


def test_entities_are_resolved_and_tags_are_read_as_text(model):
    same = model.encode_text(["cats &amp;amp; dogs", "cats & dogs", "  CATS   &  dogs\n"])
    torch.testing.assert_close(same[0], same[1])
    torch.testing.assert_close(same[1], same[2])
    tagged = model.encode_text(["<b>cats</b> & dogs", "cats & dogs"])
    assert not torch.allclose(tagged[0], tagged[1]) and torch.isfinite(tagged).all()


@pytest.mark.parametrize("text", ["🐈 on a 🛋️", "一只猫坐在沙发上。它在睡觉。", "Ein Kätzchen schläft", "\x00\ufffd"])
def test_other_scripts_and_emoji_are_read_as_bytes(model, text):
    features = model.encode_text([text, "A cat on a sofa"])
    assert torch.isfinite(features).all() and not torch.allclose(features[0], features[1])
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))


def test_nothing_at_all_is_an_error(model):
    with pytest.raises(DataError, match="no captions were given"):
        model.encode_text([])
    with pytest.raises(DataError, match="no pictures were given"):
        model.encode_image([])


# ---------------------------------------------------------------------- pictures


def encoded_as(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def two_halves(size=(48, 32)):
    """Left red, right blue."""
    image = Image.new("RGB", size, (200, 30, 30))
    image.paste((30, 30, 200), (size[0] // 2, 0, *size))
    return image


def test_what_is_no_picture_is_named(model, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(encoded_as(two_halves(), "JPEG")[:200])
    (tmp_path / "text.png").write_text("no picture")
    reasons = {
        "broken.jpg": "cannot be decoded as a picture: it is cut off",
        "text.png": "cannot be decoded as a picture: it is text; give a picture file",
        "absent.png": "not found; check the name",
        ".": "is a folder; give a picture file",
    }
    for name, reason in reasons.items():
        with pytest.raises(DataError, match=rf"{re.escape(str(tmp_path / name))}: {reason}"):
            model.encode_image([two_halves(), tmp_path / name])
    with pytest.raises(TypeError, match="a path, bytes, a Pillow image, a tensor or an array, found complex"):
        model.encode_image([1j])
    with pytest.raises(DataError, match="is 0 x 5 pixels"):
        model.encode_image(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(4, 4, 3, dtype=torch.uint8), r"tensor \(3, H, W\).*found shape \(4, 4, 3\)"),
        (torch.zeros(1, 3, 4, 4, 4), r"found shape \(1, 3, 4, 4, 4\)"),
        (torch.full((3, 4, 4), 255.0), r"must lie in \[0, 1\].* found 255 to 255"),
        (torch.full((3, 4, 4), float("nan")), r"must lie in \[0, 1\]"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "as uint8, or as floats"),
    ],
)
def test_a_tensor_that_is_no_picture_says_what_it_is(model, tensor, words):
    with pytest.raises(ValueError, match=words):
        model.encode_image(tensor)
    with pytest.raises(DataError, match="is 0 x 5 pixels"):
        model.encode_image(torch.zeros(3, 5, 0, dtype=torch.uint8))


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (3000, 2)])
def test_any_size_has_features_maps_and_segments_of_its_own_size(model, size):
    image = two_halves(size)
    features = model.encode_image(image)
    assert features.shape == (1, 64) and torch.isfinite(features).all()
    assert model.ground(image, "Red. Blue.").shape == (2, size[1], size[0])
    assert {labels.shape for labels in model.segment(image)} == {(size[1], size[0])}


def test_the_middle_of_a_long_strip_is_what_its_crop_sees(model):
    strip = Image.new("RGB", (4000, 2), (30, 200, 30))
    strip.paste((200, 30, 30), (1990, 0, 2010, 2))
    torch.testing.assert_close(model.encode_image(strip), model.encode_image(Image.new("RGB", (9, 9), (200, 30, 30))))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "F", "I;16"])
def test_every_mode_is_read_as_the_colours_it_shows(model, mode):
    if mode == "I;16":
        image = Image.fromarray(np.full((20, 20), 0x8080, np.uint16))
        expected = Image.new("RGB", (20, 20), (0x80,) * 3)
    else:
        grey = Image.new("RGB", (20, 20), (255, 255, 255))
        image, expected = grey.convert("L").convert(mode) if mode in "1LAF" else grey.convert(mode), grey
    torch.testing.assert_close(model.encode_image(image), model.encode_image(expected))


def test_transparent_is_white_and_an_animation_its_first_frame(model):
    red, white = Image.new("RGB", (20, 20), (200, 0, 0)), Image.new("RGB", (20, 20), (255, 255, 255))
    clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    torch.testing.assert_close(model.encode_image(clear), model.encode_image(white))
    animation = encoded_as(red, "GIF", save_all=True, append_images=[white])
    torch.testing.assert_close(model.encode_image(animation), model.encode_image(encoded_as(red, "GIF")))


def test_a_picture_on_its_side_is_turned_before_anything_else(model):
    upright = two_halves()
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned; to be shown after a quarter turn clockwise
    stored = encoded_as(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    torch.testing.assert_close(model.encode_image(stored), model.encode_image(upright))
    np.testing.assert_allclose(model.ground(stored, ["red"]), model.ground(upright, ["red"]), atol=1e-6)
    for turned, straight in zip(model.segment(stored), model.segment(upright), strict=True):
        assert np.array_equal(turned, straight) and turned.shape == (32, 48)
