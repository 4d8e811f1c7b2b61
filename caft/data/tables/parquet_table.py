"""Records of a Parquet file, as pandas, polars, DuckDB and others write them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caft.data.tables.header import Columns, places
from caft.data.tables.record import Record, checked
from caft.digests import file_digest
from caft.errors import DataError, SchemaError

ROWS_AT_ONCE = 1000


class ParquetTable(AbstractContextManager["ParquetTable"]):
    """A Parquet file of texts: strings of any kind, bytes in UTF-8, or categories; a column may be all null."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self.path, self.bytes, self._columns = path, path.stat().st_size, columns
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: is no whole Parquet file ({_first_line(error)}); write it again") from None
        schema = self._file.schema_arrow
        found = places(schema.names, columns, str(path))
        self._names = [schema.names[place] if place >= 0 else "" for place in found]
        for name in filter(None, self._names):
            kind = schema.field(name).type
            if not _is_text(kind) and not self._is_null(name):
                raise SchemaError(
                    f"{path}: column {name} is {kind}, expected string; write it as text, one caption a row (in pandas "
                    f"`.astype('string')`; of a list, join its texts or give each a column: {columns.names})"
                )

    def __exit__(self, *error: object) -> None:
        self._file.close()

    @property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return file_digest(self.path)

    def __iter__(self) -> Iterator[Record]:
        """Yields the rows; nulls are ""."""
        row = 0
        try:
            for batch in self._file.iter_batches(ROWS_AT_ONCE, columns=[name for name in self._names if name]):
                nothing = [""] * batch.num_rows
                values = [_texts(batch[name]) if name else nothing for name in self._names]
                for fields in zip(*values, strict=True):
                    row += 1
                    texts = [field for field in fields if field is not None]
                    if len(texts) == len(fields):
                        yield checked(row, texts, self._names[0] == "path", self._columns)
                    else:
                        yield Record(row, f"not UTF-8: {','.join(texts)}", texts)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(f"after row {row}", error) from None

    def _is_null(self, name: str) -> bool:
        """Whether a column of any type has no value, as pandas and polars write an optional one that is empty."""
        try:
            return all(_is_empty(batch.column(0)) for batch in self._file.iter_batches(ROWS_AT_ONCE, columns=[name]))
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(f"in column {name}", error) from None

    def _damaged(self, where: str, error: Exception) -> DataError:
        return DataError(f"{self.path}: cannot be read {where} ({_first_line(error)}); write it again")


def _is_empty(column: pa.Array) -> bool:
    """Whether all is null, or as polars writes it, not a number."""
    if pa.types.is_floating(column.type):
        return bool(pc.all(pc.is_null(column.cast(pa.float64()), nan_is_null=True), min_count=0).as_py())
    return column.null_count == len(column)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    types = pa.types
    checks = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    return any(check(kind) for check in (*checks, types.is_binary, types.is_large_binary, types.is_binary_view))


def _texts(column: pa.Array) -> list[str | None]:
    """Texts of a column, "" for null; None for what is not UTF-8, which Parquet does not check in strings either."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not _is_text(column.type):
        return [""] * len(column)  # all null
    try:
        values = column.to_pylist()
    except UnicodeDecodeError:
        values = column.view(pa.binary() if pa.types.is_string(column.type) else pa.large_binary()).to_pylist()
    return [_decoded(value) if isinstance(value, bytes) else value or "" for value in values]


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
