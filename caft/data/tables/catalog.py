"""Caption statistics of a corpus: counts and lengths by field, as in the paper's Table 5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from caft.captions.sentences import SPLITTERS
from caft.data.tables.schema import FIELDS
from caft.errors import DataError


def caption_statistics(captions: Path, sentences: Path) -> dict[str, dict[str, Any]]:
    """Counts the captions of a corpus and measures them, for each field.

    Args:
        captions: Folder of caption tables.
        sentences: Folder of sentence tables, of the same names.

    Returns:
        For each field: ``captions`` that are not empty, the mean over those of ``characters``, and, for each splitter,
        those of ``sentences_<splitter>`` and ``tokens_<splitter>`` (CLIP's, of all its sentences, without start and
        end); means of no caption are None.

    Raises:
        DataError: A folder holds no table.
    """
    for folder in (captions, sentences):
        if not any(folder.glob("[0-9]*.parquet")):
            raise DataError(f"{folder}: holds no table; run the stage that writes it (`dvc repro`)")
    texts = ", ".join(
        f"count(*) FILTER ({field} <> ''), avg(length({field})) FILTER ({field} <> '')" for field in FIELDS
    )
    lengths = ", ".join(
        f"sum(len({splitter}_spans.{field})), sum(len(flatten({splitter}_ids.{field})))"
        for field in FIELDS
        for splitter in SPLITTERS
    )
    with duckdb.connect() as database:
        counted = _only_row(database, f"SELECT {texts} FROM read_parquet($tables)", captions)
        measured = _only_row(database, f"SELECT {lengths} FROM read_parquet($tables)", sentences)
    statistics = {}
    for place, field in enumerate(FIELDS):
        count, characters = counted[2 * place : 2 * place + 2]
        statistics[field] = {"captions": count, "characters": characters}
        for number, splitter in enumerate(SPLITTERS, start=place * len(SPLITTERS)):
            of_sentences, of_tokens = measured[2 * number : 2 * number + 2]
            statistics[field] |= {
                f"sentences_{splitter}": of_sentences / count if count else None,
                f"tokens_{splitter}": of_tokens / count if count else None,
            }
    return statistics


def _only_row(database: duckdb.DuckDBPyConnection, query: str, folder: Path) -> tuple[Any, ...]:
    row = database.execute(query, {"tables": str(folder / "[0-9]*.parquet")}).fetchone()
    assert row is not None  # an aggregate without groups always gives one row
    return row
