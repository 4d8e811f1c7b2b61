"""Tables of how far pictures bear out the sentences of their captions, and sentence tables without those that are flagged.

A folder of them has, for each corpus, one table a shard, as the sentence tables they are about.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from caft.captions.sentences import Splitter
from caft.data.tables.fields import FIELDS
from caft.data.tables.meanings import schema
from caft.data.tables.schema import SENTENCES, open_table
from caft.errors import DataError
from caft.storage import replacing

SUPPORT = schema(
    [
        ("row_id", pa.int64()),
        ("caption", pa.string()),
        ("number", pa.int32()),
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("sentence", pa.string()),
        ("logit", pa.float32()),
        ("support", pa.float32()),
        ("flagged", pa.bool_()),
    ]
)


class LeftOut(NamedTuple):
    """What flags take out of a shard."""

    sentences: int = 0
    captions: int = 0  # that lose all their sentences
    images: int = 0  # that do

    def __add__(self, other: LeftOut) -> LeftOut:  # type: ignore[override]  # sums, not a longer tuple
        return LeftOut(*(a + b for a, b in zip(self, other, strict=True)))


def write_supported(sentences: Path, support: Path, target: Path, splitter: Splitter) -> LeftOut:
    """Writes a sentence table again without the sentences that a table of support flags.

    Args:
        sentences: A table of the stage sentences.
        support: Of the same shard and splitter.
        target: The table to write; the other splitter's sentences stay as they are.
        splitter: Whose sentences are left out.

    Raises:
        DataError: There is no table of support, or it is of other sentences.
        SchemaError: A table has not the expected columns.
    """
    if not support.exists():
        raise DataError(
            f"{support}: not found; data.exclude_unsupported needs a table for each shard of {sentences.parent}; run "
            "pipelines/audit for this corpus, or set it to null"
        )
    table = open_table(sentences, SENTENCES).read()
    flagged = _flagged(support)
    rows = dict(zip(table["row_id"].to_pylist(), range(len(table)), strict=True))
    columns = {name: table[name].to_pylist() for name in (f"{splitter}_spans", f"{splitter}_ids")}
    spans, ids = columns.values()
    out = LeftOut()
    for (row_id, caption), numbers in flagged.items():
        found = spans[rows[row_id]][caption] if row_id in rows and caption in FIELDS else []
        if any(n >= len(found) or (found[n]["start"], found[n]["end"]) != ends for n, ends in numbers.items()):
            raise DataError(
                f"{support}: flags sentences of {caption} in row {row_id} that are not in {sentences}; it is of other "
                f"captions, or of another splitter than {splitter}. Run pipelines/audit again"
            )
        left = [number for number in range(len(found)) if number not in numbers]
        for values in (spans, ids):
            of_row = values[rows[row_id]]
            of_row[caption] = [of_row[caption][number] for number in left]
        out += LeftOut(len(numbers), not left, not any(spans[rows[row_id]].values()))
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type))
    with replacing(target) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return LeftOut(*map(int, out))


def _flagged(path: Path) -> dict[tuple[int, str], dict[int, tuple[int, int]]]:
    """Start and end of each sentence that is flagged, by its number, of each row and caption."""
    table = open_table(path, SUPPORT).read(columns=["row_id", "caption", "number", "start", "end", "flagged"])
    found: dict[tuple[int, str], dict[int, tuple[int, int]]] = {}
    for row in table.filter(table["flagged"]).to_pylist():
        found.setdefault((row["row_id"], row["caption"]), {})[row["number"]] = row["start"], row["end"]
    return found
