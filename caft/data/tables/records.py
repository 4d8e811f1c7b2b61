"""Records of a corpus' table as its publisher wrote it: CSV in known columns, or a user's own CSV or Parquet.

Memory does not grow with the file. A record that is wrong is yielded with what is wrong about it, and reading goes on.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from caft.data.tables.header import CUSTOM as CUSTOM
from caft.data.tables.header import DREAMLIP as DREAMLIP
from caft.data.tables.header import Columns as Columns
from caft.data.tables.header import other_separator, places
from caft.data.tables.parquet_table import ParquetTable
from caft.data.tables.record import FIELD_LIMIT, Record, checked
from caft.errors import DataError, SchemaError

# By the first bytes: files that are named .csv or .parquet by mistake, or that a reader might expect to be taken.
_OTHER_FILES = {
    b"\x1f\x8b": ("compressed by gzip", "unpack it (`gunzip --keep`)"),
    b"BZh": ("compressed by bzip2", "unpack it (`bunzip2 --keep`)"),
    b"\xfd7zXZ": ("compressed by xz", "unpack it (`xz --decompress --keep`)"),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", "unpack it (`zstd --decompress`)"),
    b"\x04\x22\x4d\x18": ("compressed by lz4", "unpack it (`lz4 --decompress`)"),
    b"7z\xbc\xaf": ("an archive of 7-Zip", "unpack it"),
    b"PK\x03\x04": ("a zip archive or a workbook of Excel", "unpack it, or save the sheet as CSV in UTF-8"),
    b"\xd0\xcf\x11\xe0": ("a workbook of Excel", "save the sheet as CSV in UTF-8"),
    b"ARROW1": ("an Arrow or Feather file", "write it as Parquet"),
    b"FEA1": ("a Feather file", "write it as Parquet"),
    b"Obj\x01": ("an Avro file", "write it as Parquet"),
    b"\x89HDF": ("an HDF5 file", "write it as Parquet"),
    b"\x80\x04": ("a pickle of Python", "write it as Parquet"),
    b"\x80\x05": ("a pickle of Python", "write it as Parquet"),
    b"\x93NUMPY": ("an array of NumPy", "write it as Parquet"),
    b"SQLite f": ("a database of SQLite", "export the table as CSV"),
    b"\xff\xfe\x00\x00": ("text in UTF-32", "convert it (`iconv -f UTF-32 -t UTF-8`)"),
    b"\xff\xfe": ("text in UTF-16", "convert it (`iconv -f UTF-16 -t UTF-8`)"),
    b"\xfe\xff": ("text in UTF-16", "convert it (`iconv -f UTF-16 -t UTF-8`)"),
    b"version https://git-lfs": ("a pointer of Git LFS", "fetch the file itself (`git lfs pull`)"),
    b"{": ("JSON", "write its records as rows"),
    b"[": ("JSON", "write its records as rows"),
    b"<": ("a web page or XML", "download the table itself"),
}
_MARK = b"\xef\xbb\xbf"  # a byte order mark
# Stands for a carriage return inside a line, which Python's csv would take for a line's end: pandas and Python itself leave
# it without quotes where lines end in a newline. No text in UTF-8 holds it.
_RETURN = "\udc0d"


def open_records(path: Path, columns: Columns) -> Table:
    """Opens a table: Parquet if it begins so, else CSV.

    Raises:
        DataError: It has not the columns, or is no such file; a CSV tells when its records are read.
    """
    with path.open("rb") as file:
        begin = file.read(32)
    if begin.startswith(b"PAR1"):
        return ParquetTable(path, columns)
    start = begin.removeprefix(_MARK).lstrip(b" \t\r\n")
    for sign, (kind, remedy) in _OTHER_FILES.items():
        if start.startswith(sign):
            raise DataError(f"{path}: is {kind}, expected CSV or Parquet; {remedy}")
    if path.suffix.lower() in (".parquet", ".pq"):
        raise DataError(f"{path}: does not begin as Parquet does; write it again, or if it is a CSV, name it so")
    return CsvTable(path, columns)


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
        header, wanted = self._header(reader)
        is_path = header[wanted[0]] == "path"
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
            fields = [field.replace(_RETURN, "\r") for field in fields]
            if len(fields) != width:
                yield Record(line, f"{len(fields)} fields, expected {width}: {','.join(fields)}", fields)
            elif not lines.are_text():
                yield Record(line, f"not UTF-8: {','.join(fields)}", fields)
            else:
                texts = [fields[place] if place >= 0 else "" for place in wanted]
                yield checked(line, texts, is_path, columns)

    def _header(self, reader: Iterator[list[str]]) -> tuple[list[str], list[int]]:
        """The names in the first line, and where address and captions are among them."""
        lines, columns, where = self._lines, self._columns, f"{self.path}: line 1"
        try:
            problem, header = None, next(reader, [])
        except csv.Error as error:
            problem, header = error, []
        if not lines.are_text():
            raise DataError(f"{where} is not UTF-8, as the published files are; convert it, for example by iconv")
        if separator := other_separator(lines.first, columns):
            raise SchemaError(
                f"{where}: columns are separated by {separator}, expected commas; save the table with commas"
            )
        if problem and "\r" in lines.first.rstrip("\r\n"):
            raise DataError(f"{where} has carriage returns, and lines end in a newline; save the table with such lines")
        if problem:
            raise DataError(f"{where} cannot be read ({problem}); expected: {columns.names}")
        return header, places(header, columns, where)


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
                text = line.decode("utf-8" if self.number else "utf-8-sig")
                text = _with_returns_inside(text) if self.number else text
                self._kept.append((text, self.number > 0 or "\0" not in text))  # UTF-16 may decode, too
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

    @property
    def first(self) -> str:
        """The record's first line, "" if there is none."""
        return self._kept[0][0] if self._kept else ""

    def go_back(self) -> None:
        """Makes the record's second line the next one."""
        self.number -= self._place - 1
        self._place = 1


def _with_returns_inside(line: str) -> str:
    """A line whose carriage returns are of its fields, but for those at its end."""
    body = line.rstrip("\r\n")
    return body.replace("\r", _RETURN) + line[len(body) :]


# An open table: an iterator over its records, with its path, its size and the SHA-256 of what was read.
Table = ParquetTable | CsvTable
