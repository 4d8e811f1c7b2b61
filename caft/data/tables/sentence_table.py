"""Sentences and token ids of every caption, by both splitters: one table per shard of captions."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from caft.captions.sentences import SPLITTERS, Splitter, many_spans, versions
from caft.captions.tokenizer import encode
from caft.data.tables.schema import CAPTIONS, FIELDS, SENTENCES, open_table
from caft.errors import DataError
from caft.storage import replacing, write_json

ROWS_AT_ONCE = 1000  # of a row group


def write_sentences(captions: Path, target: Path) -> dict[str, int]:
    """Splits and tokenises the captions of one shard.

    Args:
        captions: A table of the captions stage.
        target: The table to write; the same rows in the same order.

    Returns:
        Counts: rows, sentences by each splitter.

    Raises:
        SchemaError: The table of captions has not the expected columns.
    """
    table = open_table(captions, CAPTIONS).read()
    texts = [text or "" for row in zip(*(table[field].to_pylist() for field in FIELDS), strict=True) for text in row]
    unique = list(dict.fromkeys(texts))
    spans = {splitter: dict(zip(unique, many_spans(unique, splitter), strict=True)) for splitter in SPLITTERS}
    row_ids = table["row_id"].combine_chunks()
    schema = SENTENCES.with_metadata({**(SENTENCES.metadata or {}), **versions()})
    with replacing(target) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        # Token ids are many times larger as Python's lists than in the table: no more than one row group at a time.
        for first in range(0, len(row_ids), ROWS_AT_ONCE):
            rows = row_ids.slice(first, ROWS_AT_ONCE)
            own = texts[first * len(FIELDS) : (first + len(rows)) * len(FIELDS)]
            columns: dict[str, Any] = {"row_id": rows}
            for splitter in SPLITTERS:
                columns |= _columns(own, spans[splitter], splitter)
            writer.write_table(pa.table(columns, schema=schema))
    return {"rows": len(row_ids)} | {name: sum(len(spans[name][text]) for text in texts) for name in SPLITTERS}


def _columns(texts: list[str], spans: dict[str, list[tuple[int, int]]], splitter: Splitter) -> dict[str, pa.Array]:
    """Spans and ids of the captions of some rows; a sentence that occurs often is encoded once."""
    known: dict[str, list[int]] = {}
    ids: dict[str, list[list[int]]] = {}
    for text in dict.fromkeys(texts):
        ids[text] = []
        for start, end in spans[text]:
            sentence = text[start:end]
            if sentence not in known:
                known[sentence] = encode(sentence)
            ids[text].append(known[sentence])
    places = [texts[i : i + len(FIELDS)] for i in range(0, len(texts), len(FIELDS))]
    columns = {
        f"{splitter}_spans": [[[{"start": s, "end": e} for s, e in spans[text]] for text in row] for row in places],
        f"{splitter}_ids": [[ids[text] for text in row] for row in places],
    }
    return {name: pa.array(column, SENTENCES.field(name).type) for name, column in columns.items()}


def summarize(captions: Path, work: Path) -> int:
    """Counts rows in and out, and writes the summary; returns the rows.

    Raises:
        DataError: A row was lost.
    """
    rows_in, rows_out = (
        sum(pq.read_metadata(path).num_rows for path in folder.glob("[0-9]*.parquet")) for folder in (captions, work)
    )
    if rows_in != rows_out:
        raise DataError(f"{work}: {rows_out} rows for {rows_in} in {captions}; remove the folder and run again")
    write_json(work / "_summary.json", {"rows_in": rows_in, "rows_out": rows_out, "dropped": {}})
    return rows_out
