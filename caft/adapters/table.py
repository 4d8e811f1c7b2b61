"""Reads rows of pictures and captions in the forms in which MLflow and its clients give them."""

import base64
import binascii
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from caft.errors import DataError
from caft.model.arguments import open_picture

COLUMNS = ("image", "caption")
FOLDER = "CAFT_IMAGE_FOLDER"
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*")
_AROUND = "\ufeff \t\r\n\"'"  # what copying and quoting leave around a text
_URLSAFE = bytes.maketrans(b"-_", b"+/")


@dataclass(frozen=True)
class Files:
    """Which files a path may name: any, those in a folder, from which paths then start, or none."""

    folder: Path | None = None
    allowed: bool = True

    def find(self, text: str) -> Path | None:
        """The file of a path; None where there is none, or it may not be opened.

        Links are followed before it is looked whether a file is in the folder.
        """
        if not self.allowed:
            return None
        try:
            path = Path(text) if self.folder is None else (self.folder / text).resolve()
            inside = self.folder is None or path.is_relative_to(self.folder.resolve())
            return path if inside and path.is_file() else None
        except (OSError, ValueError):  # a name may not be as long as a picture, nor have a zero byte
            return None

    @property
    def none_found(self) -> str:
        """What it means that `find` gives None, the same whether or not there is a file."""
        if not self.allowed:
            return f"paths are not opened here (the server sets no {FOLDER})"
        return "no such file here" if self.folder is None else f"no such file in the server's {FOLDER}"


def columns(table: Any) -> tuple[list[Any], list[Any]]:
    """Images and captions of a table; other columns are left out.

    Args:
        table: A table of pandas, pyarrow or the like; a mapping of columns (each a list, or a mapping of row names as
            pandas' `to_json` writes), or of one row; a list of mappings, one a row; a list or array of rows (image, caption),
            or an array with named fields. MLflow makes one row of a mapping of lists; that is read as the columns.

    Raises:
        DataError: A column is missing or there twice, or a row is incomplete.
    """
    if isinstance(table, np.ndarray):
        if table.dtype.names:
            table = {name: table[name].tolist() for name in table.dtype.names}
        elif table.ndim == 2:
            return _pairs(table.tolist())
        else:
            table = table.tolist()
    if isinstance(table, Mapping) or hasattr(table, "columns"):
        # A table of pyarrow keeps the columns themselves under `columns`; a column of pandas may have any name.
        arrow = getattr(table, "column_names", None)
        own = table if isinstance(table, Mapping) else arrow if isinstance(arrow, list) else table.columns
        names = [str(name) for name in own]
        for name in COLUMNS:
            if names.count(name) != 1:
                what = "is there twice" if name in names else "is missing"
                raise DataError(
                    f"column {name} {what}: expected image and caption, found {', '.join(names[:8]) or 'none'}"
                )
        images, captions = _by_row(*(table[name] for name in COLUMNS))
        if len(images) == len(captions) == 1 and isinstance(images[0], list) and isinstance(captions[0], list):
            images, captions = images[0], captions[0]
        if len(images) != len(captions):
            raise DataError(f"found {len(images)} images and {len(captions)} captions; give as many of each")
        return images, captions
    if isinstance(table, Sequence) and not isinstance(table, str | bytes | bytearray):
        if all(isinstance(row, Mapping) for row in table):
            for number, row in enumerate(table):
                if absent := [name for name in COLUMNS if name not in row]:
                    raise DataError(f"row {number}: has no {' and no '.join(absent)}; give image and caption")
            images, captions = ([row[name] for row in table] for name in COLUMNS)
            return images, captions
        return _pairs(table)
    raise DataError(f"expected a table with the columns image and caption, found {type(table).__name__}")


def _pairs(rows: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    for number, row in enumerate(rows):
        if not isinstance(row, list | tuple) or len(row) != len(COLUMNS):
            found = f"{len(row)} values" if isinstance(row, list | tuple) else type(row).__name__
            raise DataError(f"row {number}: expected an image and a caption, found {found}")
    return [row[0] for row in rows], [row[1] for row in rows]


def _by_row(images: Any, captions: Any) -> tuple[list[Any], list[Any]]:
    if not (isinstance(images, Mapping) and isinstance(captions, Mapping)):
        return _listed(images), _listed(captions)
    if images.keys() != captions.keys():
        odd = ", ".join(map(repr, sorted(map(str, images.keys() ^ captions.keys()))[:3]))
        raise DataError(f"image and caption have other rows ({odd} in one of them alone); give as many of each")
    return list(images.values()), [captions[row] for row in images]


def _listed(column: Any) -> list[Any]:
    """Values of a column; one value alone is a column of one."""
    if hasattr(column, "to_pylist"):
        return list(column.to_pylist())
    if isinstance(column, str | bytes | bytearray | Path | Mapping) or not hasattr(column, "__iter__"):
        return [column]
    return list(column)


def numbered(values: Sequence[Any]) -> tuple[NDArray[np.intp], list[Any]]:
    """For each value its number among the different ones, and these, in the order of their first appearance."""
    keys: list[Hashable] = [
        (type(value), bytes(value) if isinstance(value, bytearray | memoryview) else value)
        if isinstance(value, str | bytes | bytearray | memoryview | Path)
        else id(value)
        for value in values
    ]
    first = {key: value for key, value in zip(reversed(keys), reversed(values), strict=True)}
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=np.intp), [first[key] for key in numbers]


def caption(value: Any) -> str:
    """The text of a row.

    Raises:
        DataError: It is none, such as a missing value.
    """
    if not isinstance(value, str):
        raise DataError(f"{_shown(value)}: expected a text")
    return value


def picture(value: Any, files: Files) -> Image.Image:
    """The picture of a row.

    Args:
        value: The bytes of a file; a path; or the bytes as a text in base64 (of either alphabet, with or without line
            breaks and padding) or as a data URL, which may also come as ASCII. A text that names a file that is there is
            a path. Blanks, quotes and a byte order mark around a text are left out where it has no meaning with them.
        files: Those that paths may name.

    Raises:
        DataError: It is none of these, or cannot be decoded.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return _from_bytes(bytes(value))
    if not isinstance(value, str | Path):
        raise DataError(f"{_shown(value)}: expected a path, the bytes of a picture, or these in base64")
    if not str(value):
        raise DataError("'': is empty; expected a path, the bytes of a picture, or these in base64")
    if (path := files.find(str(value))) is not None:
        return open_picture(path)
    text = str(value).strip(_AROUND)
    if _is_data_url(text):
        return _from_data_url(text)
    if (path := files.find(text)) is not None:
        return open_picture(path)
    content = _from_base64(text.encode("utf-8", "replace")) if isinstance(value, str) else None
    if content is None:
        raise DataError(f"{_shown(value)}: {files.none_found}, and not base64 of a picture")
    return _decoded(content, _shown(value), f"{files.none_found}, and not base64 of a picture")


def _from_bytes(value: bytes) -> Image.Image:
    try:
        return _decoded(value, f"of {len(value):,} bytes")
    except DataError:
        text = value.decode("utf-8", "replace").strip(_AROUND)
        if _is_data_url(text):
            return _from_data_url(text)
        content = _from_base64(text.encode())
        try:
            return open_picture(content or b"")
        except DataError:
            pass
        raise


def _is_data_url(text: str) -> bool:
    return text[:5].lower() == "data:"


def _from_data_url(text: str) -> Image.Image:
    head, comma, body = text.partition(",")
    content = unquote_to_bytes(body) if comma else None
    if content is not None and head.lower().rstrip().endswith(";base64"):
        content = _from_base64(content)
    if content is None:
        raise DataError(f"{_shown(text)}: is not a data URL of a picture, data:image/jpeg;base64,...")
    return _decoded(content, _shown(text))


def _from_base64(text: bytes) -> bytes | None:
    plain = b"".join(text.split()).translate(_URLSAFE).rstrip(b"=")
    if not _BASE64.fullmatch(plain):
        return None
    try:
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        return None


def _decoded(content: bytes, shown: str, otherwise: str = "cannot be decoded as a picture") -> Image.Image:
    try:
        return open_picture(content)
    except DataError as error:
        reason = str(error).partition("given bytes: ")[2] or str(error)
        reason = reason.removeprefix("cannot be decoded as a picture: ")
        raise DataError(f"{shown}: {otherwise} ({reason})") from None


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else f"{str(value)[:60]!s} ({type(value).__name__})"
    return text if len(text) <= 60 else text[:57] + "..."
