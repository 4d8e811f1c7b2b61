"""Pictures with captions as a user has them: a table that names pictures, or a folder with a text beside each picture."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from caft.captions.sentences import Splitter, spans
from caft.captions.words import unreadable
from caft.errors import DataError
from caft.model.folder import list_pictures

_KINDS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
_COLUMNS = ("image", "caption")


class Pair(NamedTuple):
    """A picture's path, a caption of it, and the row of the table, or the picture's place in the folder, from 0."""

    image: Path
    caption: str
    row: int


class Said(NamedTuple):
    """A sentence of a caption: its number there, its first character and the one after its last, and itself."""

    number: int
    start: int
    end: int
    sentence: str


def read_pairs(source: Path) -> list[Pair]:
    """Reads a table with the columns `image` and `caption`, or a folder in which ``a.txt`` is the caption of ``a.jpg``.

    Paths of a table start from its folder. Rows and pictures without a caption are left out.

    Raises:
        DataError: There is no such table or folder, it cannot be read, or has no caption.
    """
    if source.is_dir():
        found = _in_folder(source)
        expected = "a .txt file with a caption beside each picture"
    else:
        found = _in_table(source)
        expected = "a caption in a row at least"
    pairs = [pair for pair in found if pair.caption.strip()]
    if not pairs:
        raise DataError(f"{source}: {len(found)} pictures and no caption; expected {expected}")
    return pairs


def said(caption: str, splitter: Splitter) -> list[Said]:
    """The sentences of a caption that have a word."""
    places = enumerate(spans(caption, splitter))
    found = (Said(number, start, end, caption[start:end]) for number, (start, end) in places)
    return [sentence for sentence in found if unreadable(sentence.sentence) is None]


def _in_folder(folder: Path) -> list[Pair]:
    pairs = []
    for row, picture in enumerate(list_pictures(folder).pictures):
        text = picture.with_suffix(".txt")
        try:
            caption = text.read_text(encoding="utf-8-sig") if text.is_file() else ""
        except (OSError, ValueError) as error:
            raise DataError(f"{text}: cannot be read as a text in UTF-8 ({error}); give the caption there") from None
        pairs.append(Pair(picture, caption, row))
    return pairs


def _in_table(table: Path) -> list[Pair]:
    kinds = ", ".join(_KINDS)
    if not table.is_file():
        raise DataError(f"{table}: no such file or folder; give a table ({kinds}), or a folder of pictures and texts")
    if (kind := table.suffix.lower()) not in _KINDS:
        raise DataError(f"{table}: expected a table that ends in one of {kinds}, or a folder of pictures and texts")
    try:
        rows = _rows(table, kind)
    except (OSError, ValueError, csv.Error) as error:  # a Unicode, JSON or Parquet error is a ValueError
        raise DataError(f"{table}: cannot be read as {kind} ({str(error).splitlines()[0]}); write it again") from None
    pairs = []
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping) or (lacking := [name for name in _COLUMNS if name not in row]):
            found = ", ".join(map(str, row)) if isinstance(row, Mapping) else f"no columns, {type(row).__name__}"
            missing = " and no ".join(lacking) if isinstance(row, Mapping) else "image and no caption"
            raise DataError(
                f"{table}: row {number} has no {missing}, but {found}; expected image, the path of a picture, and caption"
            )
        if row["image"]:
            pairs.append(Pair(table.parent / str(row["image"]), str(row["caption"] or ""), number))
    return pairs


def _rows(table: Path, kind: str) -> list[Any]:
    if kind == ".parquet":
        import pyarrow.parquet as pq

        found: list[Any] = pq.read_table(table).to_pylist()
        return found
    with table.open(encoding="utf-8-sig", newline="") as file:
        if kind == ".json":
            found = json.load(file)
            return found if isinstance(found, list) else [found]
        if kind == ".jsonl":
            return [json.loads(line) for line in file if line.strip()]
        return list(csv.DictReader(file, delimiter="\t" if kind == ".tsv" else ","))
