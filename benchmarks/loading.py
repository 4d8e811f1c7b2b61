"""Measures images a second, not decoded, of the reader against webdataset on the same tars, in one process.

The tars hold a picture of some 30 kB (random bytes, since nothing is decoded), a JSON and a text for each sample.
webdataset reads them from beginning to end through a buffer that shuffles, as training does; the reader reads any image
of any tar, in an order over all of them. Both read from the page cache: the files were just written.
"""

import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset

from benchmarks.measuring import machine, print_rates, times
from caft.data.tables.schema import CAPTIONS, FIELDS
from caft.data.tables.sentence_table import write_sentences
from caft.data.training.batch import Sampling, sample_sub_captions
from caft.data.training.index import build_index
from caft.data.training.reader import TrainingIndex

SHARDS, IMAGES_PER_SHARD, PICTURE_BYTES = 8, 500, 30_000
BUFFER = 1000
REPETITIONS = 3
LEAST = 3.0  # times webdataset's images a second
CAPTION = "A man walks. A dog runs beside him. The street is wet. Two cars wait at a light."


def no_picture(rng: np.random.Generator) -> bytes:
    """Random bytes, as many as an encoded picture has."""
    return rng.bytes(int(rng.integers(PICTURE_BYTES // 2, PICTURE_BYTES * 3 // 2)))


def write_corpus(
    folder: Path, picture: Callable[[np.random.Generator], bytes] = no_picture, shards: int = SHARDS
) -> None:
    """Writes tars, caption tables, sentence tables and the index."""
    rng = np.random.default_rng(0)
    for name in ("images", "captions", "sentences"):
        (folder / name / "made").mkdir(parents=True)
    for shard in range(shards):
        rows = []
        with tarfile.open(folder / "images/made" / f"{shard:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in range(IMAGES_PER_SHARD):
                row_id = shard * IMAGES_PER_SHARD + number
                encoded = picture(rng)
                note = json.dumps({"url": f"https://host/{row_id}.jpg", "key": f"{row_id:09d}"}).encode()
                for ending, content in (("jpg", encoded), ("json", note), ("txt", CAPTION.encode())):
                    info = tarfile.TarInfo(f"{row_id:09d}.{ending}")
                    info.size = len(content)
                    if ending == "jpg":
                        offset = tar.offset + tarfile.BLOCKSIZE
                    tar.addfile(info, io.BytesIO(content))
                rows.append([f"{row_id:09d}", row_id, offset, len(encoded), 256, 256, "", *[CAPTION] * len(FIELDS)])
        columns = [
            pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), CAPTIONS, strict=True)
        ]
        table = folder / "captions/made" / f"{shard:05d}.parquet"
        pq.write_table(pa.table(columns, schema=CAPTIONS), table)
        write_sentences(table, folder / "sentences/made" / table.name)
    build_index(folder / "index", [{"name": "made"}], "spacy", folder / "captions", folder / "sentences")


def by_webdataset(paths: list[str]) -> int:
    """Reads all samples; returns the bytes of their pictures."""
    samples = webdataset.WebDataset(paths, shardshuffle=False).shuffle(BUFFER)
    return sum(len(sample["jpg"]) for sample in samples)


def by_index(index: TrainingIndex, order: list[int]) -> int:
    """The same by offset, in an order over all images."""
    return sum(len(index.image_bytes(row)) for row in order)


def with_captions(index: TrainingIndex, order: list[int]) -> int:
    """The same, and the token ids of eight sub-captions of each image."""
    rng, total = np.random.default_rng(0), 0
    for row in order:
        total += len(index.image_bytes(row))
        for pairs in sample_sub_captions(index.num_sentences(row), rng, Sampling()):
            index.sub_caption_ids(row, pairs)
    return total


def main() -> None:
    """Prints images a second of each."""
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder)
        index = TrainingIndex(folder / "index", folder / "images")
        order = np.random.default_rng(1).permutation(len(index)).tolist()
        paths = [str(path) for path in sorted((folder / "images/made").glob("*.tar"))]
        forms: dict[str, Callable[[], object]] = {
            "webdataset": partial(by_webdataset, paths),
            "by offset": partial(by_index, index, order),
            "by offset, with token ids of eight sub-captions": partial(with_captions, index, order),
        }
        sizes = {form: run() for form, run in forms.items()}
        assert len(set(sizes.values())) == 1, sizes
        taken = times(forms, REPETITIONS)
        print_rates(taken, len(index))
        ratio = taken["webdataset"].least / taken["by offset"].least
        print(f"by offset / webdataset: {ratio:.1f} times the images a second; at least {LEAST} wanted")


if __name__ == "__main__":
    main()
