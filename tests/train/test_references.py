"""Reference sentences of the card: drawn from an index' long captions, the same each time."""

import numpy as np

from caft.data.tables.fields import FIELDS
from caft.train.references import draw_references


def write_index(folder, images):
    """An index' texts: for each image the sentences of its seven captions."""
    folder.mkdir()
    sentences = [sentence for captions in images for caption in captions for sentence in caption]
    counts = [len(caption) for captions in images for caption in captions]
    raw = [sentence.encode() for sentence in sentences]
    np.save(folder / "captions.npy", np.cumsum([0, *counts]))
    np.save(folder / "text_ends.npy", np.cumsum([len(text) for text in raw]))
    np.save(folder / "text.npy", np.frombuffer(b"".join(raw), np.uint8))
    return folder


def test_only_sentences_of_long_captions_are_drawn_and_always_the_same(tmp_path):
    images = [
        [
            [f"{field} {image} häuser", "2.", "x" * 300] if number % 3 else [f"{field} {image}"]
            for number, field in enumerate(FIELDS)
        ]
        for image in range(30)
    ]
    images[3] = [[] for _ in FIELDS]
    folder = write_index(tmp_path / "index", images)
    found = draw_references(folder, 20)
    assert len(found) == len(set(found)) == 20 and found == sorted(found) == draw_references(folder, 20)
    every = {sentence for captions in images for caption in captions for sentence in caption}
    assert set(found) <= every and all(sentence.startswith("long_") for sentence in found)


def test_an_index_of_few_sentences_gives_all_of_them(tmp_path):
    folder = write_index(tmp_path / "index", [[["the same"] for _ in FIELDS]] * 5)
    assert draw_references(folder, 200) == ["the same"]
