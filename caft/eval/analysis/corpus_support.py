"""The support of every sentence of a training corpus, shard by shard, as tables; then the flags, over the whole corpus."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from caft.captions.sentences import Splitter
from caft.data.tables.fields import FIELDS
from caft.data.tables.schema import CAPTIONS, SENTENCES, open_table
from caft.data.tables.support_table import SUPPORT
from caft.errors import DataError
from caft.model.support import OTHERS, Judge, least_support
from caft.network.caft import CAFT
from caft.storage import replacing
from caft.transforms import open_image

logger = logging.getLogger(__name__)

_AT_ONCE = 64  # pictures
_SEED = 0  # of the choice of the others


class Shard(NamedTuple):
    """Files of one shard: its captions, its sentences and its pictures."""

    captions: Path
    sentences: Path
    tar: Path

    @property
    def name(self) -> str:
        """As "00012"."""
        return self.captions.stem


class Row(NamedTuple):
    """An image of a shard: its row, and where its picture lies in the tar."""

    row_id: int
    offset: int
    size: int


def read_rows(shard: Shard) -> list[Row]:
    """The images of a shard in the order of its tables."""
    table = open_table(shard.captions, CAPTIONS).read(columns=list(Row._fields))
    return [Row(*values) for values in zip(*(table[name].to_pylist() for name in Row._fields), strict=True)]


def read_picture(shard: Shard, row: Row) -> Image.Image:
    """A picture, RGB.

    Raises:
        DataError: The tar is missing or shorter, or the picture cannot be decoded.
    """
    try:
        with shard.tar.open("rb") as file:
            content = os.pread(file.fileno(), row.size, row.offset)
    except FileNotFoundError:
        raise DataError(f"{shard.tar}: not found; run `dvc repro --force fetch@{shard.tar.parent.name}`") from None
    return open_image(content)


def choose_others(network: CAFT, shards: Sequence[Shard]) -> Judge:
    """Encodes the pictures that all sentences of a corpus are compared with, up to `OTHERS` drawn from all its shards.

    Pictures that cannot be read are passed over.
    """
    counts = [pq.read_metadata(shard.captions).num_rows for shard in shards]
    ends = np.cumsum(counts)
    drawn = np.random.default_rng(_SEED).permutation(int(ends[-1]))[: 2 * OTHERS] if shards else np.zeros(0, int)
    keys: list[int] = []
    pictures: list[Image.Image] = []
    rows: dict[int, list[Row]] = {}
    for place in drawn.tolist():
        number = int(np.searchsorted(ends, place, "right"))
        rows.setdefault(number, read_rows(shards[number]))
        row = rows[number][place - int(ends[number])]  # counted from the end of its shard
        try:
            picture = read_picture(shards[number], row)
        except DataError as error:
            logger.warning("row %d is not compared with: %s", row.row_id, error)
            continue
        keys.append(row.row_id)
        pictures.append(picture)
        if len(keys) == OTHERS:
            break
    return Judge.of(network, keys, pictures)


def score_shard(judge: Judge, shard: Shard, splitter: Splitter, target: Path) -> dict[str, int]:
    """Writes the table of a shard, without flags yet.

    Returns:
        Counts: `sentences`, and of pictures that cannot be read, whose sentences have neither logit nor support,
        `unreadable`.

    Raises:
        DataError: Tables of the shard do not belong together, or there is no tar.
    """
    captions = open_table(shard.captions, CAPTIONS).read(columns=["row_id", *FIELDS])
    sentences = open_table(shard.sentences, SENTENCES).read(columns=["row_id", f"{splitter}_spans"])
    if captions["row_id"].to_pylist() != sentences["row_id"].to_pylist():
        raise DataError(
            f"{shard.sentences}: its rows are not those of {shard.captions}; run `dvc repro sentences` again"
        )
    if not shard.tar.exists():
        raise DataError(f"{shard.tar}: not found; run `dvc repro --force fetch@{shard.tar.parent.name}`")
    counts = {"sentences": 0, "unreadable": 0}
    rows, texts, spans = read_rows(shard), captions.to_pylist(), sentences[f"{splitter}_spans"].to_pylist()
    with replacing(target) as temporary, pq.ParquetWriter(temporary, SUPPORT, compression="zstd") as writer:
        for first in range(0, len(rows), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            found, unreadable = _score(judge, shard, rows[some], texts[some], spans[some])
            writer.write_table(pa.Table.from_pylist(found, schema=SUPPORT))
            counts["sentences"] += len(found)
            counts["unreadable"] += unreadable
    return counts


def _score(
    judge: Judge, shard: Shard, rows: Sequence[Row], texts: Sequence[dict[str, Any]], spans: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], int]:
    """Rows of the table for some images, and how many of their pictures cannot be read."""
    pictures: list[Image.Image] = []
    readable: list[int] = []
    for place, row in enumerate(rows):
        try:
            pictures.append(read_picture(shard, row))
            readable.append(place)
        except DataError as error:
            logger.warning("row %d: its sentences have no support: %s", row.row_id, error)
    of_rows = [
        [
            {
                "row_id": row.row_id,
                "caption": field,
                "number": number,
                **span,
                "sentence": text[field][slice(*span.values())],
            }
            for field in FIELDS
            for number, span in enumerate(found[field])
        ]
        for row, text, found in zip(rows, texts, spans, strict=True)
    ]
    asked = [[sentence["sentence"] for sentence in of_rows[place]] for place in readable]
    scored = judge.score([rows[place].row_id for place in readable], pictures, asked)
    known = (sentence for place in readable for sentence in of_rows[place])
    for sentence, logit, support in zip(known, scored.logits.tolist(), scored.support.tolist(), strict=True):
        sentence |= {"logit": logit, "support": None if np.isnan(support) else support}
    return [{**sentence, "flagged": False} for found in of_rows for sentence in found], len(rows) - len(readable)


def flag(tables: Sequence[Path], share: float | None = None) -> dict[str, Any]:
    """Flags what lies below `caft.model.support.least_support` of all the tables, in place; again with the same result.

    Returns:
        `sentences`, `without_support`, `flagged`, the `threshold`, and `images` and `captions` of which every sentence is
        flagged.
    """
    values = np.concatenate([pq.read_table(path, columns=["support"])["support"].to_numpy() for path in tables])
    threshold = least_support(values, share)
    counts = {"sentences": len(values), "without_support": int(np.isnan(values).sum()), "flagged": 0}
    counts |= {"captions": 0, "images": 0}
    for path in tables:
        table = open_table(path, SUPPORT).read()
        flagged = table["support"].to_numpy() < np.float32(threshold)  # what is not known is not below
        place = table.schema.get_field_index("flagged")
        with replacing(path) as temporary:
            pq.write_table(
                table.set_column(place, SUPPORT.field("flagged"), pa.array(flagged)), temporary, compression="zstd"
            )
        counts["flagged"] += int(flagged.sum())
        frame = table.select(["row_id", "caption"]).to_pandas().assign(flagged=flagged)
        counts["captions"] += int(frame.groupby(["row_id", "caption"])["flagged"].all().sum())
        counts["images"] += int(frame.groupby("row_id")["flagged"].all().sum())
    return {**counts, "threshold": float(np.float32(threshold))}
