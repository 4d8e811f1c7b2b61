"""Parquet in row groups of one size: memory is bounded, and img2dataset takes a row group for a shard."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


class RowGroups:
    """Writes a Parquet file whose row groups all have the same number of rows, but for the last.

    pyarrow's own write_dataset(min_rows_per_group, max_rows_per_group) does the same, but takes all tables at once and
    writes one file only, where `caft.data.tables.source` fills two in turn.
    """

    def __init__(self, path: Path, schema: pa.Schema, rows: int) -> None:
        self.writer = pq.ParquetWriter(path, schema, compression="zstd")
        self.rows = rows
        self.waiting = schema.empty_table()

    def __enter__(self) -> RowGroups:
        return self

    def __exit__(self, *error: object) -> None:
        self._write(self.waiting)
        self.writer.close()

    def add(self, table: pa.Table) -> None:
        """Appends rows."""
        self.waiting = pa.concat_tables([self.waiting, table])
        while self.waiting.num_rows >= self.rows:
            self._write(self.waiting.slice(0, self.rows))
            self.waiting = self.waiting.slice(self.rows)

    def _write(self, table: pa.Table) -> None:
        if table.num_rows:
            self.writer.write_table(table.combine_chunks(), self.rows)
