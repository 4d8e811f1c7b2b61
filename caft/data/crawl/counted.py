"""Where each row of a corpus counts: one table with its image, or with the cause of its loss.

A row is found by its address, in the shard in which it was asked last. What the shards hold of other addresses counts
nowhere.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from caft.data.crawl.causes import cause_of
from caft.data.crawl.manifest import Shard, notes_folder, shard_files
from caft.data.crawl.own import FILE, name_of
from caft.data.crawl.rows import COUNTED, counted_table
from caft.data.crawl.shards import SUCCESS
from caft.data.tables.database import bounded
from caft.data.tables.row_groups import RowGroups
from caft.storage import replacing, write_csv

if TYPE_CHECKING:
    import duckdb

ROWS_AT_ONCE = 100_000


def tables_of(folder: Path, names: Sequence[str]) -> list[str]:
    """The tables of some shards."""
    return [str(shard_files(folder, name)[1]) for name in names]


def count_rows(urls: Path, folder: Path, names: Sequence[str], memory_gb: int) -> Path:
    """Writes the table `COUNTED`; `shard` is null for a row that was never asked.

    Args:
        urls: Table of the source stage.
        folder: Folder of the shards.
        names: The complete ones.
        memory_gb: What the join may hold before it uses `folder`, in gigabytes.
    """
    target = counted_table(folder)
    with replacing(target) as temporary, bounded(notes_folder(folder), memory_gb) as database:
        # Of what is lost alone is there much to say, and in few words.
        database.create_function("cause_of", cause_of, ["VARCHAR", "VARCHAR"], "VARCHAR", null_handling="special")  # type: ignore[call-overload]
        found = database.sql(
            f"""
            WITH held AS (
                SELECT *, parse_filename(filename, true)::INTEGER AS number FROM read_parquet($tables, filename = true)
            ),
            latest AS (SELECT url, max(number) AS number FROM held GROUP BY url),
            counted AS (SELECT held.* FROM held JOIN latest USING (url, number))
            SELECT
                u.row_id, u.url, parse_filename(c.filename, true) AS shard,
                CASE WHEN c.status = '{SUCCESS}' THEN c.key END AS key,
                CASE WHEN c.status <> '{SUCCESS}' THEN cause_of(c.status, c.error_message) END AS cause,
                c.width, c.height, CASE WHEN c.status = '{SUCCESS}' THEN c.sha256 END AS download_sha256
            FROM (SELECT row_id, url FROM read_parquet($urls)) u LEFT JOIN counted c USING (url)
            ORDER BY md5(u.url), u.row_id
            """,
            params={"tables": tables_of(folder, names), "urls": str(urls)},
        )
        with RowGroups(temporary, COUNTED, ROWS_AT_ONCE) as groups:
            for batch in found.to_arrow_reader(ROWS_AT_ONCE):
                groups.add(pa.Table.from_batches([batch]).cast(COUNTED))
        database.remove_function("cause_of")
    return target


def count_shards(counted: Path, shards: Mapping[str, Shard], memory_gb: int) -> tuple[Shard, ...]:
    """Entries of the manifest: of each shard, the rows that count in it; without those in which none does.

    Args:
        counted: As `count_rows` wrote it.
        shards: What each shard holds, by name.
        memory_gb: What the sort may hold before it uses the disk, in gigabytes.
    """
    with bounded(counted.parent, memory_gb) as database:
        rows = _rows(
            database,
            "SELECT shard, row_id, cause, download_sha256 FROM read_parquet($counted) ORDER BY len(shard), shard, row_id",
            counted,
        )
        return tuple(_entry(shards[name], group) for name, group in itertools.groupby(rows, lambda row: str(row[0])))


def _entry(shard: Shard, rows: Iterator[tuple[Any, ...]]) -> Shard:
    lost: Counter[str] = Counter()
    digest, successes = hashlib.sha256(), 0
    for _, row, cause, sha256 in rows:
        if cause is None:  # as `rows_fingerprint` has it
            digest.update(f"{row} {sha256}\n".encode())
            successes += 1
        else:
            lost[cause] += 1
    return Shard(
        name=shard.name,
        rows=successes + lost.total(),
        successes=successes,
        lost=dict(sorted(lost.items())),
        bytes=shard.bytes,
        sha256=shard.sha256,
        fingerprint=digest.hexdigest(),
    )


def write_lost(counted: Path, target: Path, work: Path, memory_gb: int) -> None:
    """Writes all lost rows, by row_id: row_id, url (of an own file, its path as the table names it), cause.

    What the sort holds beyond `memory_gb` goes into `work`.
    """
    with bounded(work, memory_gb) as database:
        query = "SELECT row_id, url, cause FROM read_parquet($counted) WHERE cause IS NOT NULL ORDER BY row_id"
        rows = _rows(database, query, counted)
        columns = ("row_id", "url", "cause")
        write_csv(
            target, columns, (dict(zip(columns, (row, name_of(url), cause), strict=True)) for row, url, cause in rows)
        )


def _rows(database: duckdb.DuckDBPyConnection, query: str, counted: Path) -> Iterator[tuple[Any, ...]]:
    for batch in database.sql(query, params={"counted": str(counted)}).to_arrow_reader(ROWS_AT_ONCE):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def own_pictures(counted: Path, memory_gb: int) -> dict[str, str | None]:
    """SHA-256 of the picture of each own file that was asked for, by address; None of a lost one."""
    with bounded(counted.parent, memory_gb) as database:
        rows = f"read_parquet($counted) WHERE shard IS NOT NULL AND starts_with(url, '{FILE}')"
        return dict(_rows(database, f"SELECT url, download_sha256 FROM {rows}", counted))


def lost_causes(counted: Path, memory_gb: int) -> set[str]:
    """Why rows are lost."""
    with bounded(counted.parent, memory_gb) as database:
        return {
            row[0]
            for row in _rows(
                database, "SELECT DISTINCT cause FROM read_parquet($counted) WHERE cause IS NOT NULL", counted
            )
        }


def first_lost(counted: Path, most: int, memory_gb: int) -> list[tuple[str, str, str]]:
    """Name, address and cause of the first lost rows; of an own file, the name is its path."""
    with bounded(counted.parent, memory_gb) as database:
        query = f"SELECT url, cause FROM read_parquet($counted) WHERE cause IS NOT NULL ORDER BY row_id LIMIT {most}"
        return [(name_of(url), url, cause) for url, cause in _rows(database, query, counted)]
