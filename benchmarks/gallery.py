"""Measures a gallery on disk at several sizes: to build, to find known again, to search; and how that grows.

    python -m benchmarks.gallery --model models/caft.safetensors --sizes 10000 100000 1000000

A million pictures are not encoded, and there are none: files are empty, and in place of the encoder's stand features of 1,000
rendered scenes, over and over, each number with noise of a fifth of their size. All else is as `caft search` does
it: the folder is listed, shards are written and read. Queries are captions of some of the scenes. Each size is looked at by a
process of its own. Printed is processor time of one thread; some 4.4 GB of disk are used for a million, and freed.
"""

import argparse
import logging
import math
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch

from benchmarks.exact import scenes
from benchmarks.measuring import CPU, forget_peak, held, machine, peak
from caft.model import gallery, search
from caft.model.encoding import EncodedCaptions, EncodedImages
from caft.model.model import Model
from caft.weights.load import load

SCENES, NOISE, BATCH, IN_A_FOLDER = 1000, 0.2, 1000, 1000
IDENTITY = "benchmark"


class Look(NamedTuple):
    """What a process found that searched a known gallery: seconds of processors and MiB, each beyond what came before."""

    known_s: float
    query_s: float
    scored: float
    names_mib: float
    query_mib: float


class MadeFeatures:
    """Stands in for the encoder: scenes' features over and over, with noise; counts the seconds that takes."""

    def __init__(self, whole: torch.Tensor, part: torch.Tensor) -> None:
        self._whole, self._part, self.seconds = whole, part, 0.0
        self._noise = torch.Generator().manual_seed(0)

    def __call__(self, network: object, paths: Sequence[Path], batch: int) -> EncodedImages:
        """Features of some paths, by the numbers that are their names."""
        start = time.process_time()
        rows = torch.tensor([int(path.stem) % len(self._whole) for path in paths])
        whole, part = self._moved(self._whole, rows), self._moved(self._part, rows)
        made = EncodedImages(torch.nn.functional.normalize(whole, dim=-1), part)
        self.seconds += time.process_time() - start
        return made

    def _moved(self, features: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(len(rows), *features.shape[1:], generator=self._noise)
        return features[rows] + NOISE * features.std() * noise


def add_files(folder: Path, first: int, last: int) -> None:
    """Empty files whose endings are a picture's, a thousand in a folder."""
    for number in range(first, last):
        below = f"{folder}/{number // IN_A_FOLDER:04}"
        if number % IN_A_FOLDER == 0:
            os.makedirs(below)
        os.close(os.open(f"{below}/{number:07}.jpg", os.O_CREAT | os.O_WRONLY))


def looked(weights: str, folder: Path, captions: list[EncodedCaptions], k: int, weight: float) -> Look:
    """Searches a known gallery; the first query, which finds the disk's pages, is not counted."""
    torch.set_num_threads(1)
    model, scored = load(weights), []
    best = search.best_images

    def counted(*arguments: object) -> object:
        found = best(*arguments)  # type: ignore[arg-type]
        scored.append(found[2])
        return found

    before, start = held(CPU), time.process_time()
    known = gallery.read_gallery(model.network, IDENTITY, folder)
    known_s, names = time.process_time() - start, held(CPU)
    forget_peak(CPU)
    taken = []
    with mock.patch.object(search, "best_images", counted):
        for query in captions:
            start = time.process_time()
            model.retrieve(query, known.features, k, weight)
            taken.append(time.process_time() - start)
    return Look(
        known_s, statistics.median(taken[1:]), statistics.median(scored[1:]), names - before, peak(CPU) - names
    )  # fmt: skip


def exponent(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """The p of the power cost ~ size^p that fits best, by least squares of logarithms."""
    return float(np.polyfit([math.log(size) for size in sizes], [math.log(max(cost, 1e-9)) for cost in costs], 1)[0])


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models/caft.safetensors", help="the default run's weights")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=6, help="the first is not counted")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.3])
    parser.add_argument(
        "--place", type=Path, help="folder on the disk to use; left out: the system's for temporary files"
    )
    given = parser.parse_args()
    logging.disable()
    torch.set_num_threads(1)
    model = load(given.model)
    with tempfile.TemporaryDirectory(dir=given.place) as name:
        os.environ["XDG_CACHE_HOME"] = f"{name}/cache"
        measure(model, Path(name), given)
    print(machine())


def measure(model: Model, place: Path, given: argparse.Namespace) -> None:
    """Builds a gallery up to each size, and looks at it by a process of its own."""
    whole, read, part, chunks = scenes(model, SCENES, model.card.chunks)
    made = MadeFeatures(whole, part)
    captions = [
        EncodedCaptions(read[row][None], chunks[row][None], 0, 0, model.card.chunks, 0, 0)
        for row in range(0, SCENES, SCENES // given.queries)
    ][: given.queries]
    sizes, rows, before = sorted(given.sizes), [], 0
    for size in sizes:
        add_files(place / "photos", before, size)
        made.seconds, start = 0.0, time.process_time()
        with mock.patch.object(gallery, "encode_cropped", made):
            gallery.read_gallery(model.network, IDENTITY, place / "photos", BATCH)
        rate = (size - before) / (time.process_time() - start - made.seconds)
        disk = sum(path.stat().st_size for path in (place / "cache").rglob("*") if path.is_file()) / size
        print(
            f"{size:,} pictures: {disk:,.0f} bytes a picture; built at {rate:,.0f} pictures/s beside the encoder",
            flush=True,
        )
        for weight in given.weights:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found = pool.apply(looked, (given.model, place / "photos", captions, given.k, weight))
            print(
                f"  part weight {weight:g}: found known in {found.known_s:.2f} s; a query {found.query_s:.3f} s, "
                f"{found.scored:,.0f} parts scored; {found.names_mib:.0f} MiB of names, {found.query_mib:.0f} MiB a query",
                flush=True,
            )
            rows.append((weight, size, found))
        before = size
    if len(sizes) > 1:
        for weight in given.weights:
            own = [(size, found) for of, size, found in rows if of == weight]
            fits = {
                field: exponent([size for size, _ in own], [getattr(found, field) for _, found in own])
                for field in Look._fields
            }
            print(f"grows at part weight {weight:g} as size to the power of", {k: round(v, 2) for k, v in fits.items()})


if __name__ == "__main__":
    main()
