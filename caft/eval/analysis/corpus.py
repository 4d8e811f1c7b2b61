"""What training reads, for a person to look at: statistics, suspicious captions, samples, and what evaluation sets repeat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from caft.data.tables.catalog import caption_statistics
from caft.data.tables.schema import FIELDS, LONG_FIELDS
from caft.data.training.reader import TrainingIndex
from caft.errors import DataError
from caft.eval.analysis.audit import Audit, audit
from caft.eval.analysis.examples import spread
from caft.transforms import open_image


@dataclass(frozen=True)
class Sample:
    """An image of the training index with its raw caption and one long caption, by name; empty ones are left out."""

    corpus: str
    row_id: int
    image: Image.Image
    captions: dict[str, str]


@dataclass(frozen=True)
class Corpus:
    """What training reads."""

    statistics: dict[str, dict[str, dict[str, Any]]]  # of captions, by corpus and field, as of `caption_statistics`
    splitter: str  # whose sentences training reads
    audits: dict[str, Audit]  # what is repeated or suspicious, by corpus
    samples: list[Sample]  # at even distances through the index
    missing: str = ""  # why there are no samples, if there are none


def describe_corpus(
    index_folder: Path,
    captions: Path,
    sentences: Path,
    urls: Path,
    images: Path,
    work: Path,
    count: int,
    memory_gb: int = 2,
) -> Corpus:
    """Reads the training index as training does, so that a wrong join of images and captions is seen.

    Tables of captions and sentences and shards of images are in a folder for each corpus; for `urls`, `work` and
    `memory_gb` see `audit`. There are up to `count` samples.

    Raises:
        DataError: There is no index, or tables of a corpus in it are missing.
    """
    index = TrainingIndex(index_folder, images)
    names = [corpus["name"] for corpus in index.corpora]
    statistics = {name: caption_statistics(captions / name, sentences / name) for name in names}
    found = audit(names, urls, captions, work, memory_gb)
    try:
        samples = [_sample(index, i, place) for place, i in enumerate(spread(len(index), count))]
    except DataError as error:  # scores and curves can be shown where the images are not
        return Corpus(statistics, index.splitter, found, [], str(error))
    return Corpus(statistics, index.splitter, found, samples)


def _sample(index: TrainingIndex, i: int, place: int) -> Sample:
    """Sample number `place`; the long captions of the three annotators take turns."""
    long = LONG_FIELDS[place % len(LONG_FIELDS)]
    counts = dict(zip(FIELDS, index.num_sentences(i), strict=True))
    captions = {
        field: index.chunk_text(i, FIELDS.index(field), list(range(counts[field])))
        for field in ("raw", long)
        if counts[field]
    }
    corpus = next(c["name"] for c in reversed(index.corpora) if int(c["first"]) <= i)
    return Sample(corpus, int(index.row_ids[i]), open_image(index.image_bytes(i)), captions)


@dataclass(frozen=True)
class Leak:
    """An evaluation image and a training image that looks like it."""

    benchmark: str
    bits: int  # in which the hashes differ
    where: str  # corpus and row of the training image
    evaluated: Image.Image
    trained: Image.Image


def read_leaks(
    pairs: Path, folders: Mapping[str, Path], index_folder: Path, images: Path, count: int
) -> Sequence[Leak]:
    """Up to `count` near-duplicates of each evaluation set, from the nearest to the farthest, by the table of leakage.

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
            for place in spread(len(mine), count):
                row = mine[place]
                pictures = open_image(folders[name] / row["image"]), index.picture(row["position"])
                found.append(Leak(name, row["bits"], f"{row['corpus']}, row {row['row_id']}", *pictures))
    except DataError:
        return []
    return found
