"""Measures images a second, decoded, cropped and with token ids, of the reader against open_clip's training pipeline.

Both read the same tars of JPEGs of 256 pixels, in one process, by the same crops to 224. open_clip's pipeline is its own
(`open_clip_train.data.get_wds_dataset`): webdataset, a crop, floats that are normalised, and ids of one caption. The reader's
samples have ids of eight sub-captions drawn from seven captions, and bytes, which a GPU normalises.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.loading import IMAGES_PER_SHARD, SHARDS, write_corpus
from benchmarks.measuring import machine, print_rates, times
from caft.data.training.batch import BatchOrder, Sampling, TrainingSet, collate
from caft.data.training.reader import TrainingIndex

BATCH, SIZE, CROP = 64, 224, (0.9, 1.0)
IMAGES = SHARDS * IMAGES_PER_SHARD // BATCH * BATCH  # in the whole batches of an epoch
REPETITIONS = 5
SEED = 0


def picture(rng: np.random.Generator) -> bytes:
    """A JPEG of 341 x 256 pixels with coarse shapes and fine grain; some 50 kB, as a photograph's of that size."""
    coarse = Image.fromarray(rng.integers(0, 256, (8, 11, 3), dtype=np.uint8)).resize(
        (341, 256), Image.Resampling.BICUBIC
    )
    grain = np.asarray(coarse, np.float32) + rng.normal(0, 6, (256, 341, 1))
    file = io.BytesIO()
    Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=95)
    return file.getvalue()


def by_reader(index: TrainingIndex) -> None:
    """All whole batches of an epoch."""
    samples = TrainingSet(index, SIZE, CROP, Sampling(), SEED)
    rows = np.arange(len(index))
    order = BatchOrder(rows, BATCH, 0, 1, SEED, 0, len(index) // BATCH)
    assert sum(len(collate([samples[place] for place in places]).images) for places in order) == IMAGES


def by_open_clip(folder: Path) -> None:
    """As many batches by open_clip."""
    import open_clip  # type: ignore[import-not-found]
    from open_clip_train.data import get_wds_dataset  # type: ignore[import-not-found]

    settings = argparse.Namespace(
        train_data=str(folder / "images/made" / f"{{00000..{SHARDS - 1:05d}}}.tar"),
        train_num_samples=SHARDS * IMAGES_PER_SHARD,
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        seed=SEED,
        batch_size=BATCH,
        world_size=1,
        workers=0,
    )
    crop = open_clip.image_transform(SIZE, is_train=True, aug_cfg={"scale": CROP})
    data = get_wds_dataset(settings, crop, True, floor=True, tokenizer=open_clip.get_tokenizer("ViT-B-16"))
    assert sum(len(pixels) for pixels, _ in data.dataloader) == IMAGES


def main() -> None:
    """Prints images a second of each."""
    argparse.ArgumentParser(prog="python -m benchmarks.decoding", description=__doc__).parse_args()
    try:
        import open_clip_train  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as missing:
        print(f"error: {missing}; pip install open_clip_torch, which is not among our packages", file=sys.stderr)
        sys.exit(2)
    torch.set_num_threads(1)
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder, picture)
        index = TrainingIndex(folder / "index", folder / "images")
        forms: dict[str, Callable[[], object]] = {
            "open_clip": partial(by_open_clip, folder),
            "reader": partial(by_reader, index),
        }
        taken = times(forms, REPETITIONS)
        print_rates(taken, IMAGES)
        print(f"reader / open_clip: {taken['open_clip'].least / taken['reader'].least:.2f} times the images a second")


if __name__ == "__main__":
    main()
