"""Stage leakage: which images of the training index look like those of the evaluation sets, and which are left out."""

import argparse
import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from caft import storage
from caft.data.crawl.fetch import ensure_indexed
from caft.data.sets import Missing, folder_of
from caft.data.training.index import read_summary
from caft.data.training.leakage import (
    MOST_BITS,
    MOST_STEPS,
    Hashes,
    confirmed,
    hash_files,
    hash_index,
    images_of,
    near_duplicates,
    tells,
)
from caft.data.training.reader import TrainingIndex
from caft.params import Params
from caft.transforms import open_image
from pipelines.stage import run

logger = logging.getLogger(__name__)
INDEX, PAIRS, EXCLUDED = Path("data/index"), Path("data/leakage.parquet"), Path("data/excluded.npy")
COLUMNS = pa.schema(
    [("benchmark", pa.string()), ("image", pa.string()), ("position", pa.int64()), ("corpus", pa.string())]
    + [("row_id", pa.int64()), ("bits", pa.int64())]
)


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    summary = read_summary(INDEX)
    ensure_indexed(params, str(INDEX), summary["corpora"])
    root = storage.root(params)
    # Hashing millions of images takes hours of a processor, and another evaluation set must not repeat it.
    kept = (
        storage.scratch_folder(params, "hashes") / hashlib.sha256((INDEX / "index.json").read_bytes()).hexdigest()[:16]
    )
    trained = hash_index(INDEX, root / "images", kept)
    reader = TrainingIndex(INDEX, root / "images")
    names = [corpus["name"] for corpus in summary["corpora"]]
    of_corpus = np.repeat(np.arange(len(names)), [corpus["count"] for corpus in summary["corpora"]])
    sets: dict[str, Any] = {}
    there: dict[str, tuple[list[Path], Hashes]] = {}
    rows: list[dict[str, Any]] = []
    for name, benchmark in params.benchmarks.items():
        images = images_of(benchmark)
        if isinstance(images, Missing):
            sets[name] = {"not_run": images.reason}
            continue
        hashes = hash_files(images)
        there[name] = images, hashes
        pairs, bits = near_duplicates(trained, hashes)
        same = confirmed(pairs, reader.picture, opening(images))
        pairs, bits = pairs[same], bits[same]
        folder = folder_of(benchmark)
        for (position, image), differing in zip(pairs.tolist(), bits.tolist(), strict=True):
            place = {
                "position": position,
                "corpus": names[of_corpus[position]],
                "row_id": int(reader.row_ids[position]),
            }
            path = os.path.relpath(images[image], folder)  # as this machine may have it elsewhere
            rows.append({"benchmark": name, "image": path, **place, "bits": differing})
        sets[name] = {
            "images": len(images),
            "without_detail": int((~tells(hashes)).sum()),
            "seen_in_training": len(np.unique(pairs[:, 1])),
            "training_images": {
                corpus: len(np.unique(pairs[of_corpus[pairs[:, 0]] == number, 0]))
                for number, corpus in enumerate(names)
            },
        }
        logger.info("%s: %d of %d images were seen in training", name, sets[name]["seen_in_training"], len(images))
    leaked = np.unique(np.array([row["position"] for row in rows], np.int64))
    excluded = leaked if params.data.exclude_eval_duplicates else leaked[:0]
    with storage.replacing(PAIRS) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, COLUMNS), temporary)
    with storage.replacing(EXCLUDED) as temporary, temporary.open("wb") as file:
        np.save(file, excluded)
    found = {
        "most_bits": MOST_BITS,
        "most_steps": MOST_STEPS,
        "images": len(trained),
        "without_detail": int((~tells(trained)).sum()),
        "near_duplicates": len(leaked),
        "excluded": len(excluded),
        "sets": sets,
        "shared": shared(there),
    }
    storage.write_json("metrics/leakage.json", found)


def opening(paths: Sequence[Path]) -> Callable[[int], Image.Image]:
    """Gives the picture at a place among the paths."""
    return lambda place: open_image(paths[place])


def shared(there: Mapping[str, tuple[list[Path], Hashes]]) -> list[dict[str, Any]]:
    """Images of one evaluation set that are in another too, for each pair of sets with some."""
    found = []
    for (first, (paths, hashes)), (second, (others, theirs)) in combinations(there.items(), 2):
        pairs, _ = near_duplicates(hashes, theirs)
        same = confirmed(pairs, opening(paths), opening(others))
        if same.any():
            found.append({"first": first, "second": second, "images": len(np.unique(pairs[same, 0]))})
    return found


if __name__ == "__main__":
    run(main)
