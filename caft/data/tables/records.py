"""Records of a corpus' table as its publisher wrote it: CSV in known columns, or a user's own CSV or Parquet.

Memory does not grow with the file. A record that is wrong is yielded with what is wrong about it, and reading goes on.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from caft.data.tables.schema import CSV_COLUMNS, FIELDS
from caft.digests import file_digest
from caft.errors import DataError, SchemaError

# Longest field in characters. A quote that is never closed ends here at the latest.
FIELD_LIMIT = 131_072
ROWS_AT_ONCE = 1000  # of a Parquet file


@dataclass(frozen=True)
class Columns:
    """Which columns of a table mean what.

    Attributes:
        address: Names of the column that says where the image is, one of which must be there. A column `path` holds
            names of files, relative to the table's folder.
        captions: Field of each column of captions.
        complete: All columns must be there; else one with captions suffices.
    """

    address: tuple[str, ...]
    captions: Mapping[str, str]
    complete: bool

    @property
    def names(self) -> str:
        """What is expected, for errors."""
        if self.complete:
            return ", ".join((*self.address, *self.captions))
        return f"{' or '.join(self.address)}, and of {', '.join(self.captions)} at least one"


DREAMLIP = Columns(CSV_COLUMNS[:1], MappingProxyType(dict(zip(CSV_COLUMNS[1:], FIELDS, strict=True))), complete=True)
# Whose annotator a field is named after makes no difference to training: long ones are taken apart, others are not.
CUSTOM = Columns(
    ("url", "path"),
    MappingProxyType(
        {
            "long_caption": "long_ib",
            "long_caption_2": "long_sv",
            "long_caption_3": "long_lla",
            "short_caption": "short_ib",
            "short_caption_2": "short_sv",
            "short_caption_3": "short_lla",
            "raw_caption": "raw",
        }
    ),
    complete=False,
)


class Record(NamedTuple):
    """A record of a table.

    Attributes:
        line: Its first line in a CSV, or its row in a Parquet file, from 1.
        problem: What is wrong, or None.
        fields: Address and captions in order of `FIELDS`, "" for none; of a wrong record whatever was found.
    """

    line: int
    problem: str | None
    fields: Sequence[str]


def open_records(path: Path, columns: Columns) -> Table:
    """Opens a table: Parquet if it is named so, else CSV.

    Raises:
        DataError: It has not the columns, or is no such file; a CSV tells when its records are read.
    """
    return ParquetTable(path, columns) if path.suffix == ".parquet" else CsvTable(path, columns)


def _places(found: Sequence[str], columns: Columns, where: str) -> list[int]:
    """Position of address and captions in a header; -1 for a missing column."""
    address = [name for name in columns.address if name in found]
    captions = {field: name for name, field in columns.captions.items() if name in found}
    missing = [name for name in (*columns.address, *columns.captions) if name not in found]
    if columns.complete and missing:
        raise SchemaError(
            f"{where} lacks the columns {', '.join(missing)}; found: {', '.join(found) or 'nothing'}; "
            f"expected: {columns.names}. The published files with addresses have names that end in _url.csv"
        )
    if len(address) != 1 or not captions:
        raise SchemaError(f"{where}: found the columns {', '.join(found) or 'none'}; expected: {columns.names}")
    names = [address[0], *(captions.get(field, "") for field in FIELDS)]
    return [found.index(name) if name else -1 for name in names]


def _as_address(path: str) -> str:
    """A file's name as an address that holds no folder of this machine; it is opened from the table's folder."""
    return f"file:{quote(path.strip())}" if path.strip() else ""


class ParquetTable(AbstractContextManager["ParquetTable"]):
    """A Parquet file of strings."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self.path, self.bytes = path, path.stat().st_size
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path}: is no whole Parquet file ({str(error).strip()}); write it again") from None
        schema = self._file.schema_arrow
        self._names = [schema.names[place] if place >= 0 else "" for place in _places(schema.names, columns, str(path))]
        for name in filter(None, self._names):
            kind = schema.field(name).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise SchemaError(f"{path}: column {name} is {kind}, expected string")

    def __exit__(self, *error: object) -> None:
        self._file.close()

    @property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return file_digest(self.path)

    def __iter__(self) -> Iterator[Record]:
        """Yields the rows; nulls are ""."""
        row = 0
        for batch in self._file.iter_batches(ROWS_AT_ONCE, columns=[name for name in self._names if name]):
            nothing = [None] * batch.num_rows
            values = [batch[name].to_pylist() if name else nothing for name in self._names]
            for fields in zip(*values, strict=True):
                row += 1
                texts = [field or "" for field in fields]
                if self._names[0] == "path":
                    texts[0] = _as_address(texts[0])
                yield Record(row, None, texts)


class CsvTable(AbstractContextManager["CsvTable"]):
    """A CSV file in UTF-8 with a header."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self.path, self._columns = path, columns
        self._lines = _Lines(path)

    def __exit__(self, *error: object) -> None:
        self._lines.close()

    @property
    def bytes(self) -> int:
        """Bytes read so far."""
        return self._lines.bytes

    @property
    def sha256(self) -> str:
        """SHA-256 of what was read so far."""
        return self._lines.digest.hexdigest()

    def __iter__(self) -> Iterator[Record]:
        """Yields the records; of an unusable one, the next line begins the next."""
        lines, columns = self._lines, self._columns
        csv.field_size_limit(FIELD_LIMIT)
        reader = csv.reader(lines, strict=True)
        lines.begin()
        try:
            header = next(reader, [])
        except csv.Error as error:
            raise DataError(f"{lines.path}: line 1 cannot be read ({error}); expected: {columns.names}") from None
        if not lines.are_text():
            raise DataError(
                f"{lines.path}: line 1 is not UTF-8, as the published files are; convert it, for example by iconv"
            )
        places = _places(header, columns, f"{lines.path}: line 1")
        is_path = header[places[0]] == "path"
        width = len(header)
        while True:
            line = lines.begin()
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Record(line, f"lines {line} to {lines.number}: {error}", [])
                lines.go_back()  # most likely a quote that is never closed: the records that it took in are whole
                continue
            if not fields:  # an empty line
                continue
            if len(fields) != width:
                yield Record(line, f"{len(fields)} fields, expected {width}: {','.join(fields)}", fields)
            elif not lines.are_text():
                yield Record(line, f"not UTF-8: {','.join(fields)}", fields)
            else:
                texts = [fields[place] if place >= 0 else "" for place in places]
                if is_path:
                    texts[0] = _as_address(texts[0])
                yield Record(line, None, texts)


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

    def close(self) -> None:
        """Closes the file."""
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


# An open table: an iterator over its records, with its path, its size and the SHA-256 of what was read.
Table = ParquetTable | CsvTable
