"""The memory-mapped index that training reads, data/index: where each image is, and the token ids of its sentences.

All arrays are flat and of fixed width, so that 27 million rows stay out of Python's memory. They are written shard by shard;
where that is not the order of the corpora's lists, `ordering.py` then puts them into it:

* `images.npy`: shard, offset, size, row_id of each image;
* `captions.npy` (images * 7 + 1): first sentence of each caption, counted over the whole index;
* `token_ends.npy`, `tokens.npy`: end of each sentence's ids, and the ids;
* `text_ends.npy`, `text.npy`: end of each sentence's UTF-8 text, and the text, needed only where two sentences meet
  at punctuation, since the tokenizer may then merge across the join;
* `repeats.npy` (n, 2), if a picture is there more than once: the place of each such image, and that of the first with the
  same picture;
* `index.json`: what the index was made of.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from caft.captions.sentences import Splitter
from caft.data.tables.fields import FIELDS
from caft.errors import DataError
from caft.progress import track
from caft.storage import write_json

IMAGE = np.dtype([("shard", np.int32), ("offset", np.int64), ("size", np.int32), ("row_id", np.int64)])
ARRAYS: dict[str, np.dtype[Any]] = {
    "images": IMAGE,
    "captions": np.dtype(np.int64),
    "token_ends": np.dtype(np.int64),
    "tokens": np.dtype(np.uint16),
    "text_ends": np.dtype(np.int64),
    "text": np.dtype(np.uint8),
}


class Repeats(NamedTuple):
    """Which pictures are there more than once: rows of each by its SHA-256, and above how many all of them are left out."""

    rows: Mapping[str, int]
    dropped_above: float


NO_REPEATS = Repeats({}, math.inf)


def build_index(
    folder: Path,
    corpora: Sequence[dict[str, str]],
    splitter: Splitter,
    captions_root: Path = Path("data/captions"),
    sentences_root: Path = Path("data/sentences"),
    repeats: Repeats = NO_REPEATS,
) -> dict[str, int]:
    """Writes an index, shard by shard.

    Args:
        folder: Where to; does not exist yet.
        corpora: Name, content fingerprint and digest of the images' manifest of each corpus, in order.
        splitter: Whose sentences to take.
        captions_root: Holds a folder of caption tables for each corpus.
        sentences_root: Holds a folder of sentence tables for each corpus.
        repeats: Over all of the corpora. How many images of a corpus are left out by it, index.json says with the corpus.

    Returns:
        For each corpus, how many images have no sentence at all; they are left out.

    Raises:
        DataError: Tables of one shard do not belong together.
        SchemaError: A table has not the expected columns.
    """
    folder.mkdir(parents=True)
    parts = {name: (folder / f".{name}").open("wb") for name in ARRAYS}
    totals = {"images": 0, "sentences": 0, "tokens": 0, "text": 0}
    shards: list[list[str]] = []
    entries = []
    without: dict[str, int] = {}
    places: dict[str, list[int]] = {}
    for corpus in corpora:
        name = corpus["name"]
        first, dropped = totals["images"], 0
        without[name] = 0
        paths = sorted((captions_root / name).glob("[0-9]*.parquet"))
        for path in track(paths, f"{name} shards"):
            sentences = sentences_root / name / path.name
            counts = _add_shard(path, sentences, splitter, len(shards), parts, totals, repeats, places)
            without[name] += counts[0]
            dropped += counts[1]
            shards.append([name, path.stem])
        entries.append({**corpus, "first": first, "count": totals["images"] - first})
        if dropped:
            entries[-1]["repeated_images"] = dropped
    parts["captions"].write(np.int64(totals["sentences"]).tobytes())
    for name, file in parts.items():
        file.close()
        _finish(folder / f".{name}", folder / f"{name}.npy", ARRAYS[name])
    if not totals["images"]:
        raise DataError(f"{captions_root}: no image with a caption in {', '.join(c['name'] for c in corpora)}")
    pairs = sorted((place, found[0]) for found in places.values() if len(found) > 1 for place in found)
    if pairs:
        np.save(folder / "repeats.npy", np.array(pairs, np.int64))
    write_json(
        folder / "index.json",
        {"version": 1, "images": totals["images"], "splitter": splitter, "corpora": entries, "shards": shards},
    )
    return without


def _add_shard(
    captions_path: Path,
    sentences_path: Path,
    splitter: Splitter,
    shard: int,
    parts: Mapping[str, BinaryIO],
    totals: dict[str, int],
    repeats: Repeats,
    places: dict[str, list[int]],
) -> tuple[int, int]:
    """Appends one shard, and to `places` where its repeated pictures are.

    Returns:
        How many of its images have no sentence, and how many others are left out since their picture is repeated.
    """
    from caft.data.tables.schema import CAPTIONS, SENTENCES, open_table  # what only reads an index needs no pyarrow

    if not sentences_path.exists():
        raise DataError(f"{sentences_path}: not found beside {captions_path}; run `dvc repro sentences`")
    captions = open_table(captions_path, CAPTIONS).read()
    sentences = open_table(sentences_path, SENTENCES).read()
    row_ids = captions["row_id"].to_pylist()
    if row_ids != sentences["row_id"].to_pylist():
        raise DataError(f"{sentences_path}: its rows are not those of {captions_path}; run `dvc repro sentences` again")
    columns = [captions[field].to_pylist() for field in FIELDS]
    added: dict[str, Any] = {name: [] for name in ARRAYS} | {"text": bytearray()}
    skipped = dropped = 0
    rows = zip(
        captions["download_sha256"].to_pylist(),
        captions["offset"].to_pylist(),
        captions["size"].to_pylist(),
        row_ids,
        sentences[f"{splitter}_spans"].to_pylist(),
        sentences[f"{splitter}_ids"].to_pylist(),
        *columns,
        strict=True,
    )
    for sha256, offset, size, row_id, spans, ids, *fields in rows:
        if not any(spans.values()):
            skipped += 1
            continue
        if (copies := repeats.rows.get(sha256, 1)) > repeats.dropped_above:
            dropped += 1
            continue
        if copies > 1:
            places.setdefault(sha256, []).append(totals["images"] + len(added["images"]))
        added["images"].append((shard, offset, size, row_id))
        for text, found, encoded in zip(fields, spans.values(), ids.values(), strict=True):
            added["captions"].append(totals["sentences"])
            for span, sentence in zip(found, encoded, strict=True):
                added["tokens"] += sentence
                totals["tokens"] += len(sentence)
                added["token_ends"].append(totals["tokens"])
                raw = text[span["start"] : span["end"]].encode()
                added["text"] += raw
                totals["text"] += len(raw)
                added["text_ends"].append(totals["text"])
            totals["sentences"] += len(found)
    totals["images"] += len(added["images"])
    for name, values in added.items():
        parts[name].write(np.array(values, ARRAYS[name]).tobytes())
    return skipped, dropped


def _finish(raw: Path, target: Path, dtype: np.dtype[Any]) -> None:
    """A raw file to a .npy file that can be mapped, without holding it in memory."""
    count = raw.stat().st_size // dtype.itemsize
    with target.open("wb") as out, raw.open("rb") as source:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(out, header)
        while block := source.read(1 << 22):
            out.write(block)
    raw.unlink()


def read_summary(folder: Path) -> dict[str, Any]:
    """The content of an index' `index.json`.

    Raises:
        DataError: There is no whole index.
    """
    path = folder / "index.json"
    try:
        summary: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: no whole index here ({error}); run `dvc repro index`") from None
    return summary


def read_repeats(folder: Path) -> np.ndarray:
    """Places of an index' images whose picture is there more than once, each with the first place of the picture, (n, 2)."""
    path = folder / "repeats.npy"
    return np.asarray(np.load(path)) if path.exists() else np.zeros((0, 2), np.int64)
