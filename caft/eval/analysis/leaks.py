"""Images of evaluation sets beside the training images that look like them, for a person to judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from caft.data.training.reader import TrainingIndex
from caft.errors import DataError
from caft.eval.analysis.examples import spread
from caft.transforms import open_image


@dataclass(frozen=True)
class Leak:
    """A near-duplicate.

    Attributes:
        benchmark: Name of the evaluation set.
        bits: In which the hashes differ.
        where: Corpus and row of the training image.
        evaluated: The set's image.
        trained: The training image.
    """

    benchmark: str
    bits: int
    where: str
    evaluated: Image.Image
    trained: Image.Image


def read_leaks(
    pairs: Path, folders: Mapping[str, Path], index_folder: Path, images: Path, count: int
) -> Sequence[Leak]:
    """Some near-duplicates of each evaluation set, from the nearest to the farthest.

    Args:
        pairs: Table of the stage leakage.
        folders: Of the evaluation sets, by name.
        index_folder: The training index.
        images: Holds a folder of shards for each corpus.
        count: Of each set, at most.

    Returns:
        None at all where images are not on this machine.
    """
    rows = pq.read_table(pairs).to_pylist()
    by_set: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["bits"]):
        by_set.setdefault(row["benchmark"], []).append(row)
    index = TrainingIndex(index_folder, images)
    found = []
    try:
        for name, mine in by_set.items():
            for place in spread(len(mine), min(count, len(mine))):
                row = mine[place]
                pictures = open_image(folders[name] / row["image"]), index.picture(row["position"])
                found.append(Leak(name, row["bits"], f"{row['corpus']}, row {row['row_id']}", *pictures))
    except DataError:
        return []
    return found
