"""Turns a corpus' published CSV into a Parquet table of addresses and captions.

Every row that is left out goes to a second table with its reason, and the counts must add up.
Memory does not grow with the file: it is read as a stream, and DuckDB looks for repeated
addresses, on disk if memory does not suffice.
"""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caft.data.locking import locked
from caft.data.schema import CSV_COLUMNS, REJECTS, URLS
from caft.errors import DataError
from caft.progress import track
from caft.storage import replacing, write_json

HUB_DATASET = "qidouxiong619/dreamlip_long_captions"
NO_URL = {"", "none", "null", "nan"}  # what exports of missing values look like

ROWS_AT_ONCE = 10_000
TEXT_LENGTH = 200  # of a rejected record, in characters, is kept
# Longest field in characters. A quote that is never closed ends here at the latest.
FIELD_LIMIT = 131_072
DUCKDB_MEMORY = "2GB"

# All records in the file's order; `reason` is null for those that are good.
RECORDS = pa.schema([*URLS, *(REJECTS.field(name) for name in ("line", "reason", "text"))])


def convert_csv(csv_path: Path, corpus: str, folder: Path, work: Path) -> None:
    """Writes ``<corpus>.parquet``, ``<corpus>.rejects.parquet`` and ``<corpus>.json`` into `folder`.

    A row's ``row_id`` is its position among the CSV's records, from 0. Of rows with one address the
    first that has a caption is kept.

    Args:
        csv_path: A table in DreamLIP's columns.
        corpus: Name of the corpus.
        folder: Where to.
        work: For temporary files, as large as the result.

    Raises:
        DataError: The file is missing, lacks a column or has no usable row, or counts do not add up.
    """
    if not csv_path.is_file():
        raise DataError(
            f"{csv_path}: the captions of corpus {corpus} are not there. Fetch {csv_path.name} from the hub data set "
            f"{HUB_DATASET} and put it at that place, or set corpus.{corpus}.csv in params.yaml to where it is"
        )
    with (
        _Lines(csv_path) as lines,
        _scratch(work / corpus, corpus) as scratch,
        replacing(folder / f"{corpus}.parquet") as table,
        replacing(folder / f"{corpus}.rejects.parquet") as rejects,
    ):
        everything = scratch / "records.parquet"
        rows_in = _write_records(lines, corpus, everything)
        repeated = _repeated(everything, scratch)
        rows_out, dropped = _separate(everything, repeated, table, rejects)
        if rows_in != rows_out + sum(dropped.values()):
            raise DataError(
                f"{csv_path}: {rows_in} records were read, but {rows_out} kept and {sum(dropped.values())} dropped; "
                "the work folder was changed meanwhile: run the stage again"
            )
        if rows_out == 0:
            raise DataError(f"{csv_path}: of {rows_in} records none can be used; dropped were {dropped}")
    write_json(
        folder / f"{corpus}.json",
        {
            "rows_in": rows_in,
            "rows_out": rows_out,
            "dropped": dropped,
            "source": {"file": csv_path.name, "bytes": lines.bytes, "sha256": lines.digest.hexdigest()},
        },
    )


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


class _Lines:
    """Lines of a file as text, while size and digest are taken in the same pass.

    One can go back within the record that was begun last.

    Attributes:
        number: Of the last line given, from 1.
        bytes: Bytes read so far.
        digest: SHA-256 of them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        self.bytes = 0
        self.digest = hashlib.sha256()
        self._file = path.open("rb")
        self._kept: list[tuple[str, bool]] = []  # from the record's first line on: text, and whether it is UTF-8
        self._place = 0

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self._place == len(self._kept):
            line = next(self._file)
            self.bytes += len(line)
            self.digest.update(line)
            try:
                self._kept.append((line.decode("utf-8" if self.number else "utf-8-sig"), True))
            except UnicodeDecodeError:
                self._kept.append((line.decode("utf-8", errors="replace"), False))
        self._place += 1
        self.number += 1
        return self._kept[self._place - 1][0]

    def begin(self) -> int:
        """Begins a record at the next line; returns its number."""
        del self._kept[: self._place]
        self._place = 0
        return self.number + 1

    def are_text(self) -> bool:
        """Whether all lines of the record are UTF-8."""
        return all(decoded for _, decoded in self._kept[: self._place])

    def go_back(self) -> None:
        """Makes the record's second line the next one."""
        self.number -= self._place - 1
        self._place = 1


def _records(lines: _Lines) -> Iterator[tuple[int, str | None, list[str]]]:
    """Yields first line, what is wrong (None: nothing), and the fields in `CSV_COLUMNS`' order.

    Fields of a record that is wrong are whatever was found.
    """
    csv.field_size_limit(FIELD_LIMIT)
    reader = csv.reader(lines, strict=True)
    lines.begin()
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise DataError(f"{lines.path}: line 1 cannot be read ({error}); expected: {', '.join(CSV_COLUMNS)}") from None
    if not lines.are_text():
        raise DataError(
            f"{lines.path}: line 1 is not UTF-8, as the published files are; convert it, for example by iconv"
        )
    missing = [column for column in CSV_COLUMNS if column not in header]
    if missing:
        raise DataError(
            f"{lines.path}: line 1 lacks the columns {', '.join(missing)}; found: {', '.join(header) or 'nothing'}; "
            f"expected: {', '.join(CSV_COLUMNS)}. The published files with addresses have names that end in _url.csv"
        )
    positions = [header.index(column) for column in CSV_COLUMNS]
    while True:
        line = lines.begin()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, f"lines {line} to {lines.number}: {error}", []
            lines.go_back()  # most likely a quote that is never closed: the records that it took in are whole
            continue
        if not fields:  # an empty line
            continue
        if len(fields) != len(header):
            yield line, f"{len(fields)} fields, expected {len(header)}: {','.join(fields)}", fields
        elif not lines.are_text():
            yield line, f"not UTF-8: {','.join(fields)}", fields
        else:
            yield line, None, [fields[position] for position in positions]


def _write_records(lines: _Lines, corpus: str, path: Path) -> int:
    """Writes all records as `RECORDS` and returns how many there are."""
    count = 0
    with _RowGroups(path, RECORDS) as writer:
        rows: list[list[object]] = []
        for row_id, (line, problem, fields) in enumerate(track(_records(lines), f"{corpus} records")):
            count += 1
            rows.append(_row(row_id, line, problem, fields))
            if len(rows) == ROWS_AT_ONCE:
                writer.add(_table(rows))
                rows = []
        if rows:
            writer.add(_table(rows))
    return count


def _row(row_id: int, line: int, problem: str | None, fields: list[str]) -> list[object]:
    """Returns one row of `RECORDS`."""
    nothing = [None] * (len(URLS) - 1)
    if problem is not None:
        return [row_id, *nothing, line, "bad_record", problem[:TEXT_LENGTH]]
    url = fields[0].strip()
    texts = [field if field.strip() else None for field in fields[1:]]
    if url.lower() in NO_URL:
        return [row_id, *nothing, line, "null_url", ",".join(fields)[:TEXT_LENGTH]]
    if not any(texts):
        return [row_id, *nothing, line, "no_caption", url[:TEXT_LENGTH]]
    return [row_id, url, *texts, line, None, None]


def _table(rows: list[list[object]]) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, RECORDS, strict=True)], RECORDS)


def _repeated(path: Path, scratch: Path) -> np.ndarray:
    """Returns the row ids, sorted, of good records whose address an earlier good record has."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": DUCKDB_MEMORY,
        "temp_directory": str(scratch / "duckdb"),
    }
    with duckdb.connect(config=settings) as database:
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


def _separate(path: Path, repeated: np.ndarray, table: Path, rejects: Path) -> tuple[int, dict[str, int]]:
    """Writes good and rejected records to two files, in the order of the source.

    Returns:
        Number of good ones, and of rejected ones by reason.
    """
    rows_out = 0
    dropped: Counter[str] = Counter()
    with _RowGroups(table, URLS) as good_writer, _RowGroups(rejects, REJECTS) as reject_writer:
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
    return rows_out, dict(sorted(dropped.items()))


class _RowGroups:
    """Writes a Parquet file in row groups of even size, however large the tables are that it gets."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.writer = pq.ParquetWriter(path, schema, compression="zstd")
        self.waiting = schema.empty_table()

    def __enter__(self) -> _RowGroups:
        return self

    def __exit__(self, *error: object) -> None:
        self._write(self.waiting)
        self.writer.close()

    def add(self, table: pa.Table) -> None:
        """Appends rows."""
        self.waiting = pa.concat_tables([self.waiting, table])
        while self.waiting.num_rows >= ROWS_AT_ONCE:
            self._write(self.waiting.slice(0, ROWS_AT_ONCE))
            self.waiting = self.waiting.slice(ROWS_AT_ONCE)

    def _write(self, table: pa.Table) -> None:
        if table.num_rows:
            self.writer.write_table(table.combine_chunks())
