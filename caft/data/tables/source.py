"""Turns a corpus' table, as published or a user's own, into a Parquet table of addresses and captions.

Every row that is left out goes to a second table with its reason, and the counts must add up.
Memory does not grow with the file: it is read as a stream, and DuckDB looks for repeated
addresses, on disk if memory does not suffice.
"""

from __future__ import annotations

import itertools
import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caft.data.tables.database import bounded
from caft.data.tables.nothing import is_nothing
from caft.data.tables.records import DREAMLIP, Columns, Table, open_records
from caft.data.tables.row_groups import RowGroups
from caft.data.tables.schema import REJECTS, URLS
from caft.errors import DataError
from caft.locking import locked
from caft.progress import track
from caft.storage import replacing, write_json

logger = logging.getLogger(__name__)

HUB_DATASET = "qidouxiong619/dreamlip_long_captions"

ROWS_AT_ONCE = 10_000
TEXT_LENGTH = 200  # of a rejected record, in characters, is kept

# All records in the file's order; `reason` is null for those that are good.
RECORDS = pa.schema([*URLS, *(REJECTS.field(name) for name in ("line", "reason", "text"))])


def convert_table(
    path: Path,
    corpus: str,
    folder: Path,
    work: Path,
    columns: Columns = DREAMLIP,
    memory_gb: int = 2,
    minimum_usable: float = 0.0,
) -> None:
    """Writes ``<corpus>.parquet``, ``<corpus>.rejects.parquet`` and ``<corpus>.json`` into `folder`.

    A row's ``row_id`` is its position among the table's records, from 0. Of rows with one address the
    first that has a caption is kept.

    Args:
        path: A CSV or Parquet file.
        corpus: Name of the corpus.
        folder: Where to.
        work: For temporary files, as large as the result.
        columns: Which columns the table has.
        memory_gb: What the search for repeated addresses may hold before it uses `work`, in gigabytes.
        minimum_usable: Least share of rows that can be used, repeated ones included, in [0, 1].

    Raises:
        DataError: The file is missing, lacks a column or has too few usable rows, or counts do not add up.
    """
    if path.is_dir():
        raise DataError(
            f'{path}: is a folder, and a table is one file; join its parts, for example `duckdb -c "COPY (FROM '
            f"'{path}/*.parquet') TO 'whole.parquet'\"`, and set corpus.{corpus} to the result"
        )
    if not path.is_file():
        if columns.complete:
            advice = (
                f"Fetch {path.name} from the hub data set {HUB_DATASET} and put it at that place, "
                f"or set corpus.{corpus}.csv"
            )
        else:
            advice = f"Set corpus.{corpus}.table"
        raise DataError(
            f"{path}: the captions of corpus {corpus} are not there. {advice} in params.yaml to where it is"
        )
    with (
        open_records(path, columns) as records,
        _scratch(work / corpus, corpus) as scratch,
        replacing(folder / f"{corpus}.parquet") as table,
        replacing(folder / f"{corpus}.rejects.parquet") as rejects,
    ):
        everything = scratch / "records.parquet"
        rows_in = _write_records(records, corpus, everything)
        repeated = _repeated(everything, scratch, memory_gb)
        rows_out, dropped, first = _separate(everything, repeated, table, rejects)
        if rows_in != rows_out + sum(dropped.values()):
            raise DataError(
                f"{path}: {rows_in} records were read, but {rows_out} kept and {sum(dropped.values())} dropped; "
                "the work folder was changed meanwhile: run the stage again"
            )
        if rows_out == 0:
            raise DataError(f"{path}: of {rows_in} records none can be used; dropped were {dropped}{_in_words(first)}")
        unusable = sum(dropped.values()) - dropped.get("duplicate_url", 0)
        if rows_in - unusable < minimum_usable * rows_in:
            raise DataError(
                f"{path}: {rows_in - unusable} of {rows_in} records can be used ({1 - unusable / rows_in:.1%}), the least "
                f"allowed is {minimum_usable:.0%} (corpus.{corpus}.minimum_usable). Dropped were {dropped}"
                f"{_in_words(first)}. Mend the table, or lower that setting to go on without them"
            )
        source = {"file": path.name, "bytes": records.bytes, "sha256": records.sha256}
    write_json(
        folder / f"{corpus}.json", {"rows_in": rows_in, "rows_out": rows_out, "dropped": dropped, "source": source}
    )
    if dropped:
        logger.warning(
            "%s: %d of %d records are kept, dropped are %s%s. All are in %s",
            *(corpus, rows_out, rows_in, dropped, _in_words(first), folder / f"{corpus}.rejects.parquet"),
        )
    else:
        logger.info("%s: all %d records are kept", corpus, rows_out)


def _in_words(first: Mapping[str, tuple[int, str]]) -> str:
    """The first record that was dropped for each reason, in one line."""
    found = []
    for reason, (line, text) in sorted(first.items(), key=lambda item: item[1][0]):
        shown = "".join(c if c.isprintable() else "?" for c in text[:80])
        found.append(f"{reason} in line {line} ({shown})")
    return f"; first are {', '.join(found)}" if found else ""


@contextmanager
def _scratch(home: Path, corpus: str) -> Iterator[Path]:
    """Gives an empty folder for temporary files, and removes it and what a killed run left in it.

    Its name is fixed, so that a kill never costs more than one table's space; hence the lock.
    """
    folder = home / "scratch"
    with locked(home, f"converting the table of {corpus}"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def _write_records(records: Table, corpus: str, path: Path) -> int:
    """Writes all records as `RECORDS` and returns how many there are."""
    count = 0
    numbered = enumerate(track(records, f"{corpus} records"))
    with RowGroups(path, RECORDS, ROWS_AT_ONCE) as writer:
        while rows := [_row(row_id, *record) for row_id, record in itertools.islice(numbered, ROWS_AT_ONCE)]:
            writer.add(_table(rows))
            count += len(rows)
    return count


def _row(row_id: int, line: int, problem: str | None, fields: Sequence[str], reason: str) -> list[object]:
    """Returns one row of `RECORDS`."""
    nothing = [None] * (len(URLS) - 1)
    if problem is not None:
        return [row_id, *nothing, line, reason, problem[:TEXT_LENGTH]]
    url = fields[0].strip()
    texts = [None if is_nothing(field) else field for field in fields[1:]]
    if is_nothing(url):
        return [row_id, *nothing, line, "null_url", ",".join(fields)[:TEXT_LENGTH]]
    if not any(texts):
        return [row_id, *nothing, line, "no_caption", url[:TEXT_LENGTH]]
    return [row_id, url, *texts, line, None, None]


def _table(rows: list[list[object]]) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, RECORDS, strict=True)], RECORDS)


def _repeated(path: Path, scratch: Path, memory_gb: int) -> np.ndarray:
    """Returns the row ids, sorted, of good records whose address an earlier good record has."""
    with bounded(scratch, memory_gb) as database:
        # Only addresses that occur more than once are joined, so that the join stays narrow and short.
        found = database.execute(
            """
            with good as (select row_id, url from read_parquet(?) where reason is null),
                 often as (select url, min(row_id) as first from good group by url having count(*) > 1)
            select row_id from good join often using (url) where row_id <> first order by row_id
            """,
            [str(path)],
        ).fetchnumpy()
    return np.asarray(found["row_id"], dtype=np.int64)


def _separate(
    path: Path, repeated: np.ndarray, table: Path, rejects: Path
) -> tuple[int, dict[str, int], dict[str, tuple[int, str]]]:
    """Writes good and rejected records to two files, in the order of the source.

    Returns:
        Number of good ones, of rejected ones by reason, and line and text of the first of each reason.
    """
    rows_out = 0
    first: dict[str, tuple[int, str]] = {}
    dropped: Counter[str] = Counter()
    with (
        RowGroups(table, URLS, ROWS_AT_ONCE) as good_writer,
        RowGroups(rejects, REJECTS, ROWS_AT_ONCE) as reject_writer,
    ):
        source = pq.ParquetFile(path)
        for group in range(source.num_row_groups):
            records = source.read_row_group(group)
            row_ids = records["row_id"].to_numpy()
            # Both are sorted: only the stretch of `repeated` that this group can hold is searched.
            start, stop = np.searchsorted(repeated, [row_ids[0], row_ids[-1] + 1])
            again = pa.array(np.isin(row_ids, repeated[start:stop], assume_unique=True))
            reason = pc.if_else(again, "duplicate_url", records["reason"])
            text = pc.if_else(again, pc.utf8_slice_codeunits(records["url"], 0, TEXT_LENGTH), records["text"])
            records = records.drop_columns(["reason", "text"])
            records = records.append_column("reason", reason).append_column("text", text)
            is_good = pc.is_null(reason)
            good = records.filter(is_good).select(URLS.names).cast(URLS)
            rejected = records.filter(pc.invert(is_good)).select(REJECTS.names).cast(REJECTS)
            good_writer.add(good)
            reject_writer.add(rejected)
            rows_out += good.num_rows
            dropped.update(rejected["reason"].to_pylist())
            for record in rejected.to_pylist():
                first.setdefault(record["reason"], (record["line"], record["text"]))
    return rows_out, dict(sorted(dropped.items())), first
