"""Images of the evaluation sets that are in the training index too, counted for each set and listed for each image."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from caft.data.sets import Missing, folder_of
from caft.data.tables.meanings import schema
from caft.data.training.index import read_summary
from caft.data.training.leakage import (
    MOST_BITS,
    MOST_STEPS,
    Hashes,
    confirmed,
    has_detail,
    hash_files,
    hash_index,
    images_of,
    near_duplicates,
)
from caft.data.training.reader import TrainingIndex
from caft.params.sets import BenchmarkParams
from caft.transforms import open_image

logger = logging.getLogger(__name__)
PAIRS = schema(
    [("benchmark", pa.string()), ("image", pa.string()), ("position", pa.int64()), ("corpus", pa.string())]
    + [("row_id", pa.int64()), ("bits", pa.int64())]
)


def find_overlap(
    index: Path, images_root: Path, kept: Path, benchmarks: Mapping[str, BenchmarkParams], exclude: bool
) -> tuple[pa.Table, NDArray[np.int64], dict[str, Any]]:
    """Compares all images of an index with those of all evaluation sets that are there.

    Args:
        index: The training index.
        images_root: Holds a folder of shards for each corpus.
        kept: Folder for the hashes of this index.
        benchmarks: Evaluation sets by name.
        exclude: Whether training leaves out the images that are found.

    Returns:
        A row for each pair of a training image and an evaluation image that look alike, with the columns of `PAIRS`;
        positions that training leaves out, ascending; and counts: for the index, for each set, and between the sets.

    Raises:
        DataError: A shard is missing, or is not the one that was indexed.
    """
    trained = hash_index(index, images_root, kept)
    reader, corpora = TrainingIndex(index, images_root), read_summary(index)["corpora"]
    names = [corpus["name"] for corpus in corpora]
    of_corpus = np.repeat(np.arange(len(names)), [corpus["count"] for corpus in corpora])
    sets: dict[str, Any] = {}
    present: dict[str, tuple[list[Path], Hashes]] = {}
    rows: list[dict[str, Any]] = []
    for name, benchmark in benchmarks.items():
        images = images_of(benchmark)
        if isinstance(images, Missing):
            sets[name] = {"not_run": images.reason}
            continue
        hashes = hash_files(images)
        present[name] = images, hashes
        pairs, bits = near_duplicates(trained, hashes)
        same = confirmed(pairs, reader.picture, _opening(images))
        pairs, bits = pairs[same], bits[same]
        folder = folder_of(benchmark)
        for (position, image), differing in zip(pairs.tolist(), bits.tolist(), strict=True):
            path = os.path.relpath(images[image], folder)  # as another machine may have the set elsewhere
            place = {"corpus": names[of_corpus[position]], "row_id": int(reader.row_ids[position]), "bits": differing}
            rows.append({"benchmark": name, "image": path, "position": position, **place})
        sets[name] = {
            "images": len(images),
            "without_detail": int((~has_detail(hashes)).sum()),
            "seen_in_training": len(np.unique(pairs[:, 1])),
            "training_images": {
                corpus: len(np.unique(pairs[of_corpus[pairs[:, 0]] == number, 0]))
                for number, corpus in enumerate(names)
            },
        }
        logger.info("%s: %d of %d images were seen in training", name, sets[name]["seen_in_training"], len(images))
    leaked = np.unique(np.array([row["position"] for row in rows], np.int64))
    excluded = leaked if exclude else leaked[:0]
    counts = {
        "most_bits": MOST_BITS,
        "most_steps": MOST_STEPS,
        "images": len(trained),
        "without_detail": int((~has_detail(trained)).sum()),
        "near_duplicates": len(leaked),
        "excluded": len(excluded),
        "sets": sets,
        "shared": _shared(present),
    }
    return pa.Table.from_pylist(rows, PAIRS), excluded, counts


def _opening(paths: Sequence[Path]) -> Callable[[int], Image.Image]:
    """Gives the picture at a place among the paths."""
    return lambda place: open_image(paths[place])


def _shared(present: Mapping[str, tuple[list[Path], Hashes]]) -> list[dict[str, Any]]:
    """Images of one evaluation set that are in another too, for each pair of sets with some."""
    found = []
    for (first, (paths, hashes)), (second, (others, theirs)) in combinations(present.items(), 2):
        pairs, _ = near_duplicates(hashes, theirs)
        same = confirmed(pairs, _opening(paths), _opening(others))
        if same.any():
            found.append({"first": first, "second": second, "images": len(np.unique(pairs[same, 0]))})
    return found
