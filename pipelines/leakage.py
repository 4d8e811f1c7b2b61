"""Stage leakage: which images of the training index look like those of the evaluation sets, and which are left out."""

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from caft import storage
from caft.data.crawl.fetch import ensure_indexed
from caft.data.training.index import read_summary
from caft.data.training.overlap import find_overlap
from caft.digests import file_digest
from caft.params import Params
from pipelines.stage import run

INDEX = Path("data/index")


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    ensure_indexed(params, str(INDEX), read_summary(INDEX)["corpora"])
    # Hashing millions of images takes hours of a processor, and another evaluation set must not repeat it.
    kept = storage.scratch_folder(params, "hashes") / file_digest(INDEX / "index.json")[:16]
    images, exclude = storage.root(params) / "images", params.data.exclude_eval_duplicates
    pairs, excluded, counts = find_overlap(INDEX, images, kept, params.benchmarks, exclude)
    with storage.replacing("data/leakage.parquet") as temporary:
        pq.write_table(pairs, temporary)
    with storage.replacing("data/excluded.npy") as temporary, temporary.open("wb") as file:
        np.save(file, excluded)
    storage.write_json("metrics/leakage.json", counts)


if __name__ == "__main__":
    run(main)
