"""Tars that are none, and pictures in them that cannot be decoded."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caft.data.crawl.tars import canonicalise
from caft.data.training.batch import Sampling, TrainingSet
from caft.data.training.index import build_index
from caft.data.training.reader import TrainingIndex
from caft.errors import DataError
from caft.transforms import open_image
from tests.bad_input.conftest import Corpus, png


@pytest.mark.parametrize("content", [b"<html>gone</html>", os.urandom(20480), b"PK\x03\x04" + bytes(600)])
def test_a_file_that_is_no_tar_is_refused_and_left_as_it_was(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "00000.tar"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"00000\.tar: is no whole tar"):
        canonicalise(path)
    assert path.read_bytes() == content


def test_a_tar_that_ends_inside_a_member_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "00000.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("b.jpg", "a.jpg"):  # not in order, so that it would have to be rewritten
            entry = tarfile.TarInfo(name)
            entry.size = 3000
            tar.addfile(entry, io.BytesIO(bytes(3000)))
    whole = path.read_bytes()
    path.write_bytes(whole[:5000])
    with pytest.raises(DataError, match=r"00000\.tar: is no whole tar"):
        canonicalise(path)
    assert [file.name for file in tmp_path.iterdir()] == ["00000.tar"]


def test_a_picture_that_cannot_be_decoded_is_named_by_row_and_tar(corpus: Corpus) -> None:
    folder = corpus(["A bus.", "A cat."], [png(), b"\xff\xd8 no picture"])
    build_index(folder / "index", [{"name": "one"}], "spacy", folder / "captions", folder / "sentences")
    samples = TrainingSet(TrainingIndex(folder / "index", folder / "images"), 32, None, Sampling(), seed=0)
    assert samples[0, 0][0].shape == (3, 32, 32)
    with pytest.raises(DataError, match=r"row 101 of one, in .*images/one/00000\.tar: .* cannot be decoded"):
        samples[0, 1]


# Kinds beyond those of tests/data/test_transforms.py.
def _png(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def test_an_animated_picture_with_a_transparent_first_frame_is_white_where_it_is_transparent() -> None:
    frames = [Image.new("RGBA", (4, 4), (0, 0, 0, 0)), Image.new("RGBA", (4, 4), (200, 0, 0, 255))]
    picture = open_image(_png(frames[0], save_all=True, append_images=frames[1:]))
    assert picture.mode == "RGB" and picture.getpixel((2, 2)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "I;16", "I;16B", "I"])
def test_every_mode_becomes_rgb_of_the_same_grey(mode: str) -> None:
    grey = Image.new("L", (4, 4), 255)
    if mode.startswith("I"):
        kind = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}[mode]
        image = Image.frombytes(mode, (4, 4), np.full((4, 4), 65535, kind).tobytes())
    else:
        image = grey.convert("RGBA").convert(mode) if mode in ("RGBA", "PA") else grey.convert(mode)
    assert open_image(image).mode == "RGB"
    assert open_image(image).getpixel((1, 1)) == (255, 255, 255)
