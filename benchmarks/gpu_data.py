"""A tar of JPEGs with an index of sentences, as the stages leave them, for a loader to read from."""

import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.gpu_steps import Setting
from caft.data.tables.fields import FIELDS
from caft.data.training.batch import BatchOrder, Sampling, TrainingSet, collate
from caft.data.training.index import IMAGE
from caft.data.training.reader import TrainingIndex

_PICTURES = 512
_SIZE = (341, 256)  # as img2dataset leaves a photograph of 4 to 3
_SENTENCES = 5  # of each caption


@contextmanager
def packed_loader(given: Setting, workers: int, steps: int) -> Iterator[DataLoader[Any]]:
    """The product's loader over a corpus of its own, for so many steps."""
    recipe = given.recipe
    with tempfile.TemporaryDirectory() as folder:
        index = _write(Path(folder))
        sampling = Sampling(
            recipe.sub_captions, recipe.chunks, recipe.max_sentences, recipe.random_rule, recipe.captions
        )
        samples = TrainingSet(index, given.model.image_size, recipe.crop_scale, sampling, 0)
        order = BatchOrder(np.arange(len(index)), recipe.batch, 0, 1, 0, 0, steps)
        yield DataLoader(
            samples,
            batch_sampler=order,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=given.device.type == "cuda",
            persistent_workers=workers > 0,
        )


def _write(folder: Path) -> TrainingIndex:
    """Smooth pictures with some noise, some 40 kB each, under captions of words without meaning."""
    rng = np.random.default_rng(0)
    shard = folder / "images" / "made"
    shard.mkdir(parents=True)
    places, size = [], 0
    with (shard / "00000.tar").open("wb") as file:
        for row in range(_PICTURES):
            coarse = Image.fromarray(rng.integers(256, size=(16, 21, 3), dtype=np.uint8)).resize(_SIZE)
            noisy = np.asarray(coarse, np.int16) + rng.integers(-12, 13, (_SIZE[1], _SIZE[0], 3), dtype=np.int16)
            encoded = io.BytesIO()
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(encoded, "JPEG", quality=95)
            content = encoded.getvalue()
            file.write(content)
            places.append((0, size, len(content), row))
            size += len(content)
    sentences = _PICTURES * len(FIELDS) * _SENTENCES
    lengths = np.clip(np.rint(rng.lognormal(3.0, 0.45, sentences)), 6, 58).astype(np.int64)
    text = np.frombuffer(b"some words", np.uint8)
    arrays = {
        "images": np.array(places, IMAGE),
        "captions": np.arange(_PICTURES * len(FIELDS) + 1, dtype=np.int64) * _SENTENCES,
        "token_ends": lengths.cumsum(),
        "tokens": rng.integers(1, 49000, lengths.sum()).astype(np.uint16),
        "text_ends": np.arange(1, sentences + 1, dtype=np.int64) * len(text),
        "text": np.tile(text, sentences),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    corpus = {"name": "made", "fingerprint": "", "first": 0, "count": _PICTURES}
    summary = {
        "version": 1,
        "images": _PICTURES,
        "splitter": "dreamlip",
        "corpora": [corpus],
        "shards": [["made", "00000"]],
    }
    (folder / "index.json").write_text(json.dumps(summary))
    return TrainingIndex(folder, folder / "images")
