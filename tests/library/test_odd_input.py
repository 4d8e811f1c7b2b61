"""Texts and pictures of every odd kind: a defined result, or one clear error."""

import io
import logging
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

from caft.captions.tokenizer import tokenize
from caft.errors import ArgumentError, DataError


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


@pytest.mark.parametrize("text", ["", "   ", "\n\n", ".", "</s>", "...", "?!", "&nbsp;", "<br>", "<p class='a'> </p>"])
def test_a_text_without_a_sentence_is_named(model, text):
    with pytest.raises(DataError, match=r"caption 1: the text .* has no sentence; give words to look for"):
        model.encode_text(["A cat.", text])
    for given in (text, ["A cat.", text]):
        with pytest.raises(DataError, match="has no sentence"):
            model.ground(Image.new("RGB", (8, 8)), given)
    with pytest.raises(DataError, match="has no sentence"):
        model.sentences(text)


def test_a_sentence_without_a_word_is_not_asked_and_a_tag_beside_words_changes_nothing(model):
    assert model.sentences("A cat.\n***\nIt sleeps.\n...") == ["A cat", "It sleeps"]
    assert model.ground(Image.new("RGB", (8, 8)), "A cat.\n***\nIt sleeps.").shape == (2, 8, 8)
    assert model.sentences("<red cat>") == ["<red cat>"] and model.sentences("<br>a cat") == ["<br>a cat"]


def test_half_a_surrogate_is_no_text(model):
    with pytest.raises(DataError, match="caption 0: .* is no valid Unicode"):
        model.encode_text("a \ud83c cat")


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


@pytest.mark.parametrize("kind", [pd.DataFrame, pa.table])
def test_a_table_in_place_of_a_column_is_refused(model, kind):
    table = kind({"image": ["a.jpg"], "caption": ["A cat."]})
    with pytest.raises(
        ArgumentError, match=r'texts: .*found a table \(\w+\); give one of its columns, table\["caption"\]'
    ):
        model.encode_text(table)
    with pytest.raises(ArgumentError, match=r'pictures: .*found a table .* table\["image"\]'):
        model.encode_image(table)


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


# ---------------------------------------------------------------------- forms of pictures, sizes and devices


def test_what_holds_or_reads_a_files_bytes_is_a_picture(model, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(data := encoded_as(two_halves(), "PNG"))
    expected = model.encode_image(data)
    written = io.BytesIO()
    two_halves().save(written, "PNG")  # stands at its end
    with open(path, "rb") as file:
        for picture in (bytearray(data), memoryview(data), io.BytesIO(data), written, file):
            assert torch.equal(model.encode_image(picture), expected)
            assert torch.equal(model.encode_image([picture]), expected)
    assert torch.equal(model.encode_image(np.array(path)), expected)
    with pytest.raises(ArgumentError, match="the given file cannot be read .*closed file"):
        model.encode_image(file)
    with (
        open(tmp_path / "a.png", encoding="latin-1") as text,
        pytest.raises(ArgumentError, match="open it with mode 'rb'"),
    ):
        model.encode_image(text)


def test_a_closed_picture_is_not_called_damaged(model):
    for image in (Image.open(io.BytesIO(encoded_as(two_halves(), "PNG"))), two_halves()):
        image.close()
        with pytest.raises(DataError, match="it was closed; open it again"):
            model.encode_image(image)


def test_an_array_of_objects_is_pictures_unless_numpy_took_them_apart(model):
    image = two_halves()
    several = np.empty(2, object)
    several[:] = [image, encoded_as(image, "PNG")]
    assert model.encode_image(several).shape == (2, 64)
    with pytest.raises(ArgumentError, match=r"array of object of shape \(2, 32, 48, 3\); give a list of pictures"):
        model.encode_image(np.array([np.asarray(image)] * 2, dtype=object))


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((0, 0), "size, height: expected a whole number from 1, found 0"),
        ((1, -2), "size, width: expected a whole number from 1, found -2"),
        ((64.0, 64.0), "size, height: expected a whole number"),
        ((True, True), "size, height: expected a whole number"),
        ((3, 4, 5), "size: expected height and width, found"),
        ("ab", "size: expected height and width, found 'ab'"),
        (64, "size: expected height and width, found 64"),
        (((1, 2), 3), r"size, height: expected a whole number from 1, found \(1, 2\)"),
        ((10**6, 10**6), "1000000 x 1000000 is more than 178,956,970 pixels"),
    ],
)
def test_a_size_of_maps_is_height_and_width(model, size, words):
    with pytest.raises(ArgumentError, match=words):
        model.ground(two_halves(), "A", size=size)


def test_a_size_of_maps_may_be_numpys(model):
    assert model.ground(two_halves(), "A", size=np.array([8, 9])).shape == (1, 8, 9)


@pytest.mark.parametrize("device", ["foo", "cuda:x", "cuda:99", "meta", None, 1.5])
def test_a_device_that_cannot_be_used_is_named(model, device):
    with pytest.raises(ArgumentError, match=f"device: {device!r} cannot be used here"):
        model.to(device)
    assert model.to("cpu").device.type == "cpu"
