"""Sentences and token ids of every caption, by both splitters: one table per shard of captions."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from caft.data.schema import CAPTIONS, FIELDS, SENTENCES, open_table
from caft.storage import replacing
from caft.text.sentences import SPLITTERS, many_spans, versions
from caft.text.tokenizer import encode


def write_shard(captions: Path, target: Path) -> dict[str, int]:
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
    counts = {"rows": table.num_rows}
    columns: dict[str, Any] = {"row_id": table["row_id"].combine_chunks()}
    for splitter in SPLITTERS:
        unique = list(dict.fromkeys(texts))
        spans = dict(zip(unique, many_spans(unique, splitter), strict=True))
        known: dict[str, list[int]] = {}
        ids: dict[str, list[list[int]]] = {}
        for text, found in spans.items():
            ids[text] = []
            for start, end in found:
                sentence = text[start:end]
                if sentence not in known:
                    known[sentence] = encode(sentence)
                ids[text].append(known[sentence])
        places = [texts[i : i + len(FIELDS)] for i in range(0, len(texts), len(FIELDS))]
        columns[f"{splitter}_spans"] = pa.array(
            [[[{"start": s, "end": e} for s, e in spans[text]] for text in row] for row in places],
            SENTENCES.field(f"{splitter}_spans").type,
        )
        columns[f"{splitter}_ids"] = pa.array(
            [[ids[text] for text in row] for row in places], SENTENCES.field(f"{splitter}_ids").type
        )
        counts[splitter] = sum(len(spans[text]) for text in texts)
    schema = SENTENCES.with_metadata({**(SENTENCES.metadata or {}), **versions()})
    with replacing(target) as temporary:
        pq.write_table(pa.table(columns, schema=schema), temporary, compression="zstd", row_group_size=1000)
    return counts
