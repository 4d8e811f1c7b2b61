import logging
import os
import shutil
from dataclasses import astuple, replace

import pytest
import torch

from caft.eval.scores import cache
from caft.eval.scores.cache import encode_pairs

CAPTIONS = ["A dog. A red cat on a mat. Grass.", "One only.", "word " * 80]


@pytest.fixture
def files(pictures, tmp_path):
    return [shutil.copy(path, tmp_path / path.name) for path in pictures[:3]]


@pytest.fixture
def encoded(monkeypatch):
    """Which sets were encoded."""
    calls = []
    original = cache.encode_cropped
    monkeypatch.setattr(cache, "encode_cropped", lambda *given: calls.append(given) or original(*given))
    return calls


def same(first, second):
    return all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for one, other in zip(first, second, strict=True)
        for a, b in zip(astuple(one), astuple(other), strict=True)
    )


def test_features_are_encoded_once_and_come_back_as_they_were(model, files, encoded, tmp_path):
    folder = tmp_path / "features"
    first = encode_pairs(model, files, CAPTIONS, 2, folder)
    again = encode_pairs(model, files, CAPTIONS, 64, folder)  # the batch is no part of a result
    assert len(encoded) == 1 and same(first, again)
    assert same(first, encode_pairs(model, files, CAPTIONS, 2))  # without a folder nothing is kept, nor taken
    assert len(encoded) == 2 and len(list(folder.iterdir())) == 1
    assert first[1].cut_tokens == 20 and first[1].tokens > first[1].seen_tokens


def change_weight(model, files, captions):
    with torch.no_grad():
        model.network.whole_projection.weight[0, 0] += 1e-3
    return model


def change_reading(model, files, captions):
    return replace(model, card=model.card.model_copy(update={"splitter": "spacy"}))


def change_time(model, files, captions):
    os.utime(files[1], ns=(0, 0))
    return model


def change_caption(model, files, captions):
    captions[1] = "Another."
    return model


def change_order(model, files, captions):
    files.reverse()
    return model


def test_features_of_another_arithmetic_are_not_taken(model, files, encoded, tmp_path, monkeypatch):
    encode_pairs(model, files, CAPTIONS, 2, tmp_path / "features")
    monkeypatch.setenv("CAFT_ARITHMETIC", "native")
    encode_pairs(model, files, CAPTIONS, 2, tmp_path / "features")
    assert len(encoded) == 2


@pytest.mark.parametrize("change", [change_weight, change_reading, change_time, change_caption, change_order])
def test_what_features_depend_on_makes_them_anew(model, files, encoded, tmp_path, change):
    captions, weights = list(CAPTIONS), {k: v.clone() for k, v in model.network.state_dict().items()}
    encode_pairs(model, files, captions, 8, tmp_path / "features")
    try:
        changed = change(model, files, captions)
        found = encode_pairs(changed, files, captions, 8, tmp_path / "features")
        assert len(encoded) == 2
        assert same(found, encode_pairs(changed, files, captions, 8))
    finally:
        model.network.load_state_dict(weights)


def cut(data):
    return data[: len(data) // 2]


def flipped(data):
    return data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]


@pytest.mark.parametrize("damage", [cut, flipped, lambda data: b"", lambda data: b"no features"])
def test_a_damaged_file_is_never_used(model, files, encoded, tmp_path, damage, caplog):
    folder = tmp_path / "features"
    first = encode_pairs(model, files, CAPTIONS, 8, folder)
    (path,) = folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert same(first, encode_pairs(model, files, CAPTIONS, 8, folder))
    assert len(encoded) == 2 and "is damaged" in caplog.text
    assert same(first, encode_pairs(model, files, CAPTIONS, 8, folder)) and len(encoded) == 2  # it was replaced


@pytest.mark.slow
def test_a_full_disk_stops_nothing(model, files, small_disk, caplog):
    (small_disk / "full").write_bytes(bytes(shutil.disk_usage(small_disk).free - 8192))
    with caplog.at_level(logging.WARNING):
        encode_pairs(model, files, CAPTIONS, 8, small_disk / "features")
    assert "features are not kept" in caplog.text and not list((small_disk / "features").iterdir())
