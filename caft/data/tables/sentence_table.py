"""Sentences and token ids of every caption, by both splitters: one table per shard of captions."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caft.captions.sentences import SPLITTERS, Splitter, many_spans, versions
from caft.captions.tokenizer import CONTEXT, encode
from caft.data.tables.nothing import is_blank
from caft.data.tables.schema import CAPTIONS, FIELDS, SENTENCES, open_table
from caft.errors import DataError
from caft.storage import replacing, write_json

ROWS_AT_ONCE = 1000  # of a row group


def write_sentences(captions: Path, target: Path) -> dict[str, int]:
    """Splits and tokenises the captions of one shard.

    Args:
        captions: A table of the captions stage.
        target: The table to write; the same rows in the same order.

    A sentence in which nothing can be seen, or that leaves no token, is none.

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
    counts = {"rows": len(row_ids)} | dict.fromkeys(SPLITTERS, 0)
    schema = SENTENCES.with_metadata({**(SENTENCES.metadata or {}), **versions()})
    with replacing(target) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        # Token ids are many times larger as Python's lists than in the table: no more than one row group at a time.
        for first in range(0, len(row_ids), ROWS_AT_ONCE):
            rows = row_ids.slice(first, ROWS_AT_ONCE)
            own = texts[first * len(FIELDS) : (first + len(rows)) * len(FIELDS)]
            columns: dict[str, Any] = {"row_id": rows}
            for splitter in SPLITTERS:
                columns |= _columns(own, spans[splitter], splitter)
                counts[splitter] += len(columns[f"{splitter}_spans"].flatten().flatten())
            writer.write_table(pa.table(columns, schema=schema))
    return counts


def _columns(texts: list[str], spans: dict[str, list[tuple[int, int]]], splitter: Splitter) -> dict[str, pa.Array]:
    """Spans and ids of the captions of some rows; a sentence that occurs often is encoded once."""
    known: dict[str, list[int]] = {}
    ids: dict[str, list[list[int]]] = {}
    seen: dict[str, list[tuple[int, int]]] = {}
    for text in dict.fromkeys(texts):
        ids[text], seen[text] = [], []
        for start, end in spans[text]:
            sentence = text[start:end]
            if sentence not in known:
                known[sentence] = [] if is_blank(sentence) else encode(sentence)
            if known[sentence]:
                ids[text].append(known[sentence])
                seen[text].append((start, end))
    places = [texts[i : i + len(FIELDS)] for i in range(0, len(texts), len(FIELDS))]
    columns = {
        f"{splitter}_spans": [[[{"start": s, "end": e} for s, e in seen[text]] for text in row] for row in places],
        f"{splitter}_ids": [[ids[text] for text in row] for row in places],
    }
    return {name: pa.array(column, SENTENCES.field(name).type) for name, column in columns.items()}


def summarize(captions: Path, work: Path) -> dict[str, Any]:
    """Counts rows in and out, and tokens that no model reads, and writes the summary.

    Returns:
        Summary: rows in, rows out, dropped by reason; and, where sentences are longer than a text of CLIP's may be, for
        each splitter the number of such `sentences` and of their `tokens` beyond that length, as `cut`.

    Raises:
        DataError: A row was lost.
    """
    rows_in, rows_out = (
        sum(pq.read_metadata(path).num_rows for path in folder.glob("[0-9]*.parquet")) for folder in (captions, work)
    )
    if rows_in != rows_out:
        raise DataError(f"{work}: {rows_out} rows for {rows_in} in {captions}; remove the folder and run again")
    summary: dict[str, Any] = {"rows_in": rows_in, "rows_out": rows_out, "dropped": {}}
    cut = {splitter: counts for splitter in SPLITTERS if (counts := _cut(work, splitter))["sentences"]}
    write_json(work / "_summary.json", summary | ({"cut": cut} if cut else {}))
    return summary | {"cut": cut}


def _cut(work: Path, splitter: Splitter) -> dict[str, int]:
    """How many sentences have more tokens than fit between start and end, and how many tokens that are."""
    sentences = tokens = 0
    for path in work.glob("[0-9]*.parquet"):
        for batch in pq.ParquetFile(path).iter_batches(ROWS_AT_ONCE, columns=[f"{splitter}_ids"]):
            lengths = pc.list_value_length(batch[0].flatten().flatten())
            longer = lengths.filter(pc.greater(lengths, CONTEXT - 2))
            sentences += len(longer)
            tokens += (pc.sum(longer).as_py() or 0) - len(longer) * (CONTEXT - 2)
    return {"sentences": sentences, "tokens": tokens}
