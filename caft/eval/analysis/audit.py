"""What looks wrong in the tables of the corpora: values that occur more than once, and suspicious captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from caft.data.tables.database import bounded
from caft.data.tables.schema import FIELDS
from caft.errors import DataError

MANY = 10  # rows with one caption are called many
SHORT = 3  # words; a caption of fewer is called very short
EXAMPLES = 3  # of each flaw, and of the captions that occur most often
LETTERS = 160  # of an example are kept

EMPTY = "empty"
# Each is asked of captions that are not empty. Patterns are RE2's, which read a caption once, whatever is in it. Whether
# most characters are beyond ASCII is counted only where there are enough bytes for it: taking characters out is slow.
FLAWS = {
    f"fewer than {SHORT} words": rf"NOT regexp_matches(value, '(\S+\s+){{{SHORT - 1}}}\S')",
    "mostly not ASCII": r"CASE WHEN 2 * strlen(value) > 3 * length(value) "
    r"THEN 2 * length(regexp_replace(value, '[\x00-\x7F]+', '', 'g')) > length(value) ELSE false END",
    "holds a URL": r"regexp_matches(value, 'https?://|www\.', 'i')",
}
_FILLED = r"regexp_matches(coalesce(value, ''), '\S')"


@dataclass(frozen=True)
class Repeats:
    """How often values of one column are repeated, seen from one corpus."""

    values: int  # distinct ones that several rows of the corpus have
    rows: int  # of the corpus, with such a value
    shared_values: int  # distinct ones that another corpus has too
    shared_rows: int  # of this corpus, with such a value
    many_rows: int  # of the corpus, with a value that `MANY` rows of it have, or more
    top: Sequence[tuple[int, str]] = ()  # how many rows have the most frequent values, and these; of captions alone


@dataclass(frozen=True)
class Flaw:
    """How many captions have it, and the first of them by row: row_id and text."""

    count: int
    examples: Sequence[tuple[int, str]] = ()


@dataclass(frozen=True)
class Audit:
    """What was found in one corpus."""

    addresses: int  # rows of its list, after source
    images: int  # rows of its caption tables: images that were downloaded
    repeats: dict[str, Repeats]  # by column: url, of the list; download_sha256, of the images; each caption field
    flaws: dict[str, dict[str, Flaw]]  # by caption field and flaw, `EMPTY` first, then `FLAWS`

    def filled(self, column: str) -> int:
        """Rows in which a column of `repeats` is not empty."""
        if column == "url":
            return self.addresses
        return self.images - (0 if column == "download_sha256" else self.flaws[column][EMPTY].count)


def audit(names: Sequence[str], urls: Path, captions: Path, work: Path, memory_gb: int = 2) -> dict[str, Audit]:
    """Returns for each corpus which values are repeated and which captions have flaws; every column is read twice.

    Args:
        names: Of the corpora.
        urls: Holds the list of each corpus, ``<name>.parquet``.
        captions: Holds a folder of caption tables for each corpus.
        work: For what does not fit in memory; used by one process at a time.
        memory_gb: What a query may hold before it uses `work`, in gigabytes.

    Raises:
        DataError: A corpus has no list, or no caption table.
    """
    lists = [urls / f"{name}.parquet" for name in names]
    tables = [captions / name / "[0-9]*.parquet" for name in names]
    for path in [*lists, *tables]:
        if not any(path.parent.glob(path.name)):
            raise DataError(f"{path}: not found; run the stage that writes it (`dvc repro`)")
    with bounded(work, memory_gb) as database:
        database.execute("SET preserve_insertion_order = false")
        repeats = {"url": _repeats(database, "url", lists)}
        repeats["download_sha256"] = _repeats(database, "download_sha256", tables)
        repeats |= {field: _repeats(database, field, tables, texts=True) for field in FIELDS}
        return {
            name: Audit(
                addresses=_count(database, lists[place]),
                images=_count(database, tables[place]),
                repeats={column: found[place] for column, found in repeats.items()},
                flaws={field: _flaws(database, field, tables[place]) for field in FIELDS},
            )
            for place, name in enumerate(names)
        }


def _repeats(
    database: duckdb.DuckDBPyConnection, column: str, tables: Sequence[Path], texts: bool = False
) -> list[Repeats]:
    """Of one column, for each corpus; `texts` says whether to show the most frequent values."""
    places = range(len(tables))
    rows = " UNION ALL ".join(
        f"SELECT {place} AS corpus, row_id, {column} AS value FROM read_parquet($tables_{place})" for place in places
    )
    # Grouped by digest, so that what is held for a distinct value does not grow with its length. Nearly all values occur
    # once: only the others are kept.
    counts = ", ".join(
        f"count(*) FILTER (corpus = {place}) AS rows_{place}, min(row_id) FILTER (corpus = {place}) AS first_{place}"
        for place in places
    )
    database.execute(
        f"CREATE OR REPLACE TEMP TABLE repeated AS SELECT {counts} FROM ({rows}) WHERE {_FILLED} "
        "GROUP BY md5_number(value) HAVING count(*) > 1",
        {f"tables_{place}": str(table) for place, table in enumerate(tables)},
    )
    total = " + ".join(f"rows_{place}" for place in places)
    found = []
    for place, table in enumerate(tables):
        (counted,) = database.execute(
            f"""
            SELECT count(*) FILTER (n > 1), coalesce(sum(n) FILTER (n > 1), 0),
                count(*) FILTER (n > 0 AND total > n), coalesce(sum(n) FILTER (total > n), 0),
                coalesce(sum(n) FILTER (n >= {MANY}), 0)
            FROM (SELECT rows_{place} AS n, {total} AS total FROM repeated)
            """
        ).fetchall()
        values, value_rows, shared, shared_rows, many = map(int, counted)
        top = _top(database, column, place, table) if texts else ()
        found.append(Repeats(values, value_rows, shared, shared_rows, many, top))
    return found


def _top(database: duckdb.DuckDBPyConnection, column: str, place: int, table: Path) -> list[tuple[int, str]]:
    """The values that most rows of a corpus have, read from the first row of each."""
    often = database.execute(
        f"SELECT first_{place}, rows_{place} FROM repeated WHERE rows_{place} > 1 "
        f"ORDER BY rows_{place} DESC, first_{place} LIMIT {EXAMPLES}"
    ).fetchall()
    if not often:
        return []
    texts = dict(
        database.execute(
            f"SELECT row_id, left({column}, {LETTERS + 1}) FROM read_parquet($tables) WHERE list_contains($rows, row_id)",
            {"tables": str(table), "rows": [row for row, _ in often]},
        ).fetchall()
    )
    return [(count, _cut(texts[row])) for row, count in often]


def _flaws(database: duckdb.DuckDBPyConnection, field: str, table: Path) -> dict[str, Flaw]:
    """Of one field of one corpus."""
    flags = ", ".join(f"{_FILLED} AND {flaw} AS flaw_{place}" for place, flaw in enumerate(FLAWS.values()))
    example = f"(row_id, left(value, {LETTERS + 1}))"
    found = ", ".join(
        f"count(*) FILTER (flaw_{place}), arg_min({example}, row_id, {EXAMPLES}) FILTER (flaw_{place})"
        for place, _ in enumerate(FLAWS)
    )
    ((empty, *values),) = database.execute(
        f"""
        SELECT count(*) FILTER (NOT filled), {found}
        FROM (
            SELECT row_id, value, {_FILLED} AS filled, {flags}
            FROM (SELECT row_id, {field} AS value FROM read_parquet($tables))
        )
        """,
        {"tables": str(table)},
    ).fetchall()
    flaws = {EMPTY: Flaw(empty)}
    for place, name in enumerate(FLAWS):
        count, examples = values[2 * place : 2 * place + 2]
        flaws[name] = Flaw(count, [(row, _cut(text)) for row, text in examples or ()])
    return flaws


def _count(database: duckdb.DuckDBPyConnection, table: Path) -> int:
    ((count,),) = database.execute("SELECT count(*) FROM read_parquet($tables)", {"tables": str(table)}).fetchall()
    return int(count)


def _cut(text: str) -> str:
    return text if len(text) <= LETTERS else f"{text[:LETTERS]} …"
