"""Sentences and token ids of every caption, by both splitters: one table per shard of captions."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caft.captions.sentences import SPLITTERS, Splitter, asked_of_spacy, many_spans, versions
from caft.captions.sentencizer import Span
from caft.captions.tokenizer import CONTEXT, encode, is_plain
from caft.data.tables.nothing import is_blank
from caft.data.tables.schema import CAPTIONS, FIELDS, SENTENCES, open_table
from caft.errors import DataError
from caft.storage import replacing

ROWS_AT_ONCE = 1000  # of a row group
ID = np.dtype(np.uint16)


def write_sentences(captions: Path, target: Path) -> dict[str, int]:
    """Splits and tokenises the captions of one shard.

    Args:
        captions: A table of the captions stage.
        target: The table to write; the same rows in the same order.

    A sentence in which nothing can be seen, or that leaves no token, is none.

    Returns:
        Counts: rows, sentences by each splitter, `characters` of the captions, and those that spaCy was `asked` about.

    Raises:
        SchemaError: The table of captions has not the expected columns.
    """
    table = open_table(captions, CAPTIONS).read()
    texts = [text or "" for row in zip(*(table[field].to_pylist() for field in FIELDS), strict=True) for text in row]
    words = _Words()
    row_ids = table["row_id"].combine_chunks()
    counts = {"rows": len(row_ids)} | dict.fromkeys(SPLITTERS, 0) | {"characters": sum(map(len, texts))}
    asked = asked_of_spacy()
    schema = SENTENCES.with_metadata({**(SENTENCES.metadata or {}), **versions()})
    with replacing(target) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        # Spans are many times larger as Python's tuples than in the table: no more than one row group at a time.
        for first in range(0, len(row_ids), ROWS_AT_ONCE):
            rows = row_ids.slice(first, ROWS_AT_ONCE)
            own = texts[first * len(FIELDS) : (first + len(rows)) * len(FIELDS)]
            columns: dict[str, Any] = {"row_id": rows}
            for splitter in SPLITTERS:
                columns |= _columns(own, splitter, words)
                counts[splitter] += sum(len(spans.flatten()) for spans in columns[f"{splitter}_spans"].flatten())
            writer.write_table(pa.table(columns, schema=schema))
    return counts | {"asked": asked_of_spacy() - asked}


def _columns(texts: list[str], splitter: Splitter, words: _Words) -> dict[str, pa.Array]:
    """Spans and ids of the captions of some rows."""
    unique = list(dict.fromkeys(texts))
    spans = dict(zip(unique, many_spans(unique, splitter), strict=True))
    types = [SENTENCES.field(f"{splitter}_{name}").type for name in ("spans", "ids")]
    found = [
        _column(texts[place :: len(FIELDS)], spans, words, [kind.field(place).type for kind in types])
        for place in range(len(FIELDS))
    ]
    return {
        f"{splitter}_{name}": pa.StructArray.from_arrays(columns, fields=list(kind))
        for name, columns, kind in zip(("spans", "ids"), zip(*found, strict=True), types, strict=True)
    }


def _column(
    texts: list[str], spans: Mapping[str, list[Span]], words: _Words, types: Sequence[pa.DataType]
) -> tuple[pa.Array, pa.Array]:
    """Spans and ids of one caption of some rows, of the given types."""
    places, captions, sentences = array("i"), array("i", [0]), array("i", [0])
    ids = bytearray()
    for text in texts:
        plain = is_plain(text)
        for start, end in spans[text]:
            sentence = text[start:end]
            if found := words.of_plain(sentence) if plain or is_plain(sentence) else words.of_other(sentence):
                places.append(start)
                places.append(end)
                ids += found
                sentences.append(len(ids) // ID.itemsize)
        captions.append(len(places) // 2)
    spans_type, ids_type = types
    starts_ends = np.frombuffer(places, np.int32).reshape(-1, 2).T
    pairs = pa.StructArray.from_arrays([pa.array(side) for side in starts_ends], fields=list(spans_type.value_type))
    tokens = _lists(np.frombuffer(sentences, np.int32), pa.array(np.frombuffer(ids, ID)), ids_type.value_type)
    ends = np.frombuffer(captions, np.int32)
    return _lists(ends, pairs, spans_type), _lists(ends, tokens, ids_type)


def _lists(ends: np.ndarray, values: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column of lists from where each begins, and the last ends, among all values."""
    return pa.ListArray.from_arrays(pa.array(ends), values, type=kind)


class _Words(dict[str, bytes]):
    """Ids of words, each encoded once: the ids of a plain text are those of its words, one after the other."""

    def __missing__(self, word: str) -> bytes:
        self[word] = found = np.array(encode(word), ID).tobytes()
        return found

    def of_plain(self, sentence: str) -> bytes:
        """The ids of a plain sentence."""
        return b"".join(map(self.__getitem__, sentence.lower().split()))

    def of_other(self, sentence: str) -> bytes:
        """The ids of any sentence; none if nothing in it can be seen."""
        return b"" if is_blank(sentence) else np.array(encode(sentence), ID).tobytes()


def summarize(captions: Path, work: Path) -> dict[str, Any]:
    """Counts rows in and out, and tokens that no model reads.

    Returns:
        Summary: rows in, rows out, dropped by reason; and as `cut`, for each splitter with sentences that are longer than
        a text of CLIP's may be, the number of such `sentences` and of their `tokens` beyond that length.

    Raises:
        DataError: A row was lost.
    """
    rows_in, rows_out = (
        sum(pq.read_metadata(path).num_rows for path in folder.glob("[0-9]*.parquet")) for folder in (captions, work)
    )
    if rows_in != rows_out:
        raise DataError(f"{work}: {rows_out} rows for {rows_in} in {captions}; remove the folder and run again")
    cut = {splitter: counts for splitter in SPLITTERS if (counts := _cut(work, splitter))["sentences"]}
    return {"rows_in": rows_in, "rows_out": rows_out, "dropped": {}, "cut": cut}


def _cut(work: Path, splitter: Splitter) -> dict[str, int]:
    """How many sentences have more tokens than fit between start and end, and how many tokens that are."""
    sentences = tokens = 0
    for path in work.glob("[0-9]*.parquet"):
        for batch in pq.ParquetFile(path).iter_batches(ROWS_AT_ONCE, columns=[f"{splitter}_ids"]):
            for ids in batch[0].flatten():
                lengths = pc.list_value_length(ids.flatten())
                longer = lengths.filter(pc.greater(lengths, CONTEXT - 2))
                sentences += len(longer)
                tokens += (pc.sum(longer).as_py() or 0) - len(longer) * (CONTEXT - 2)
    return {"sentences": sentences, "tokens": tokens}
