"""Measures images a second, decoded, cropped and with token ids, of the reader against open_clip's training pipeline.

Both read the same tars of JPEGs of 256 pixels, one process each, in turn, by the same crops to 224. open_clip's pipeline is
its own (`open_clip_train.data.get_wds_dataset`): webdataset, a crop, floats that are normalised, and ids of one caption. The
reader's samples have ids of eight sub-captions drawn from seven captions, and bytes, which a GPU normalises. Given another
checkout, its reader takes turns with them. `--growth` measures the reader alone, on pictures of three sizes.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.loading import IMAGES_PER_SHARD, SHARDS, write_corpus
from benchmarks.measuring import Times, machine, peak_memory, print_rates, times
from caft.data.training.batch import BatchOrder, Sampling, TrainingSet, collate
from caft.data.training.reader import TrainingIndex

BATCH, SIZE, CROP = 64, 224, (0.9, 1.0)
IMAGES = SHARDS * IMAGES_PER_SHARD // BATCH * BATCH  # in the whole batches of an epoch
REPETITIONS = 5
SIDES = (256, 512, 1024)
SEED = 0
HERE = Path(__file__).parents[1]
# A checkout's reader: an epoch for each line that it is sent, and its processor seconds.
READER = """
import sys, time
from pathlib import Path
import torch
from benchmarks.decoding import by_reader
from caft.data.training.reader import TrainingIndex
torch.set_num_threads(1)
folder = Path(sys.argv[1])
index = TrainingIndex(folder / "index", folder / "images")
for _ in sys.stdin:
    start = time.process_time()
    by_reader(index)
    print(time.process_time() - start, flush=True)
"""


def picture(rng: np.random.Generator, side: int = 256) -> bytes:
    """A JPEG of 4 to 3 with coarse shapes and fine grain; of 341 x 256 pixels some 50 kB, as a photograph's of that size."""
    width = side * 4 // 3
    coarse = Image.fromarray(rng.integers(0, 256, (8, 11, 3), dtype=np.uint8)).resize(
        (width, side), Image.Resampling.BICUBIC
    )
    grain = np.asarray(coarse, np.float32) + rng.normal(0, 6, (side, width, 1))
    file = io.BytesIO()
    Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=95)
    return file.getvalue()


def by_reader(index: TrainingIndex) -> None:
    """All whole batches of an epoch."""
    assert _read(index, len(index) // BATCH) == IMAGES


def _read(index: TrainingIndex, batches: int) -> int:
    samples = TrainingSet(index, SIZE, CROP, Sampling(), SEED)
    order = BatchOrder(np.arange(len(index)), BATCH, 0, 1, SEED, 0, batches)
    return sum(len(collate([samples[place] for place in places]).images) for places in order)


def by_open_clip(folder: Path) -> float:
    """As many batches by open_clip; returns processor seconds."""
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
    start = time.process_time()
    crop = open_clip.image_transform(SIZE, is_train=True, aug_cfg={"scale": CROP})
    data = get_wds_dataset(settings, crop, True, floor=True, tokenizer=open_clip.get_tokenizer("ViT-B-16"))
    assert sum(len(pixels) for pixels, _ in data.dataloader) == IMAGES
    return time.process_time() - start


def _reader_of(checkout: Path, folder: Path) -> Callable[[], float]:
    """An epoch by a checkout's code, in a process that waits between its turns."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", READER, str(folder)],
        cwd=checkout, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    asked, answers = process.stdin, process.stdout

    def epoch() -> float:
        asked.write("\n")
        asked.flush()
        return float(answers.readline())

    return epoch


def compare(other: Path | None) -> None:
    """Prints images a second of each pipeline, and the ratios."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder, picture)
        forms: dict[str, Callable[[], float]] = {
            "open_clip": partial(by_open_clip, folder),
            "reader": _reader_of(HERE, folder),
        }
        if other is not None:
            forms["reader of the other"] = _reader_of(other.resolve(), folder)
        seconds: dict[str, list[float]] = {form: [] for form in forms}
        for _ in range(REPETITIONS + 1):  # the first warms up
            for form, epoch in forms.items():
                seconds[form].append(epoch())
    print_rates({form: Times(min(taken[1:]), statistics.median(taken[1:])) for form, taken in seconds.items()}, IMAGES)
    for form in [form for form in forms if form != "reader"]:
        of_pairs = [a / b for a, b in zip(seconds[form][1:], seconds["reader"][1:], strict=True)]
        print(f"reader / {form}: {statistics.median(of_pairs):.2f} times the images a second, median of {REPETITIONS}")


def _reading(folder: Path) -> Callable[[], object]:
    return partial(_read, TrainingIndex(folder / "index", folder / "images"), 2)


def growth() -> None:
    """Prints time and memory of two batches of pictures of each size, and the straight lines through them."""
    rows = []
    for side in SIDES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_corpus(folder, partial(picture, side=side), shards=1)
            taken = times({"reader": _reading(folder)}, REPETITIONS)["reader"]
            memory = peak_memory(_reading, folder)
        pixels = side * (side * 4 // 3) / 1e6
        rows.append((pixels, taken.median / (2 * BATCH) * 1e3, memory))
        print(f"{pixels:.3f} megapixels: {rows[-1][1]:.3f} ms an image, {memory:.1f} MiB added", flush=True)
    for column, unit in ((1, "ms"), (2, "MiB")):
        sizes, values = [row[0] for row in rows], [row[column] for row in rows]
        slope, start = np.polyfit(sizes, values, 1)
        off = max(abs(start + slope * size - value) / value for size, value in zip(sizes, values, strict=True))
        print(f"{unit} = {start:.3f} + {slope:.3f} x megapixels, off by at most {100 * off:.0f} %")


def main() -> None:
    """Measures what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoding", description=__doc__)
    parser.add_argument("--other", type=Path, metavar="FOLDER", help="another checkout, to compare with")
    parser.add_argument("--growth", action="store_true", help="pictures of three sizes in place of open_clip")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    if given.growth:
        growth()
        return
    try:
        import open_clip_train  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as missing:
        print(f"error: {missing}; pip install open_clip_torch, which is not among our packages", file=sys.stderr)
        sys.exit(2)
    compare(given.other)


if __name__ == "__main__":
    main()
