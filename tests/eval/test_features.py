import logging

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from caft.captions.tokenizer import encode, tokenize
from caft.errors import DataError
from caft.eval.scores.features import encode_pictures
from caft.model.encoding import encode_captions, encode_cropped, encode_sub_captions
from caft.transforms import center_crop, open_image, squash

CAPTIONS = ["A dog. A red cat on a mat. Grass.", "One only.", "a. b. c. d. e. f. g."]


def test_images_are_encoded_in_order_whatever_the_batch(network, pictures):
    encoded = encode_cropped(network, pictures, batch=4)
    whole, part = encoded.whole, encoded.part
    assert whole.shape == (6, 64) and part.shape == (6, 32, 64)
    for number, path in enumerate(pictures):
        alone = network.image_features(center_crop(open_image(path), 64)[None])
        torch.testing.assert_close(whole[number], alone.whole[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(part[number], alone.part[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(6))


def test_captions_are_split_and_balanced_as_the_card_says(model, network):
    features = encode_captions(model, CAPTIONS, batch=2)
    assert features.whole.shape == (3, 64) and features.parts.shape == (3, 4, 64)
    # Three sentences fill four chunks by starting again; seven are 2, 2, 2, 1, joined by ". ".
    chunks = [["A dog", "A red cat on a mat", "Grass", "A dog"], ["One only"] * 4, ["a. b", "c. d", "e. f", "g"]]
    for number, texts in enumerate(chunks):
        alone = network.sub_caption_features(tokenize(texts))
        torch.testing.assert_close(features.parts[number], alone, atol=1e-5, rtol=1e-5)
        whole, _ = network.text_features(tokenize(texts)[None])
        torch.testing.assert_close(features.whole[number], whole[0], atol=1e-5, rtol=1e-5)
    assert features.cut_chunks == features.cut_tokens == 0


def test_cut_chunks_are_counted_and_reported(model, caplog):
    long = "word " * 80  # one sentence of 80 tokens; 75 fit beside start and end
    assert len(encode(long)) == 80
    with caplog.at_level(logging.WARNING):
        features = encode_captions(model, [f"{long}. Short", "Short"], batch=8)
    # Two sentences fill four chunks, so the long one is there twice.
    assert (features.cut_chunks, features.cut_tokens) == (2, 10)
    # Each sentence counts once: 80 + 1 tokens of the first caption, of which five are lost, and one of the second.
    assert (features.chunks, features.tokens, features.seen_tokens) == (8, 82, 77)
    assert "2 of 8 chunks are longer than 77 tokens and were cut, 10 tokens lost" in caplog.text


def test_texts_are_single_sub_captions(network):
    features = encode_sub_captions(network, ["a red circle", "a. b", "x"], batch=2)
    torch.testing.assert_close(features, network.sub_caption_features(tokenize(["a red circle", "a. b", "x"])))


def test_pictures_are_squashed_whole(network, pictures):
    found = list(encode_pictures(network, pictures, [(40, 60)] * 6, batch=4))
    assert len(found) == 6
    for path, features in zip(pictures, found, strict=True):
        alone = network.image_features(squash(open_image(path), 64)[None])
        assert torch.equal(features.labels, alone.labels)
        torch.testing.assert_close(features.part, alone.part, atol=1e-4, rtol=1e-4)
        assert [a.shape for a in features.assignments] == [a.shape for a in alone.assignments]
        assert F.cosine_similarity(features.whole, alone.whole).item() == pytest.approx(1, abs=1e-5)


def test_an_image_of_another_size_than_its_annotations_is_refused(network, tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="a.jpg: is 30 x 20 pixels, its annotations are for 20 x 30"):
        list(encode_pictures(network, [tmp_path / "a.jpg"], [(30, 20)], batch=1))
