"""What all layouts share: files that may be absent, that came from other systems, or that hold something else."""

import functools
import glob
import io
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from caft.data.sets.findings import Findings
from caft.errors import DataError
from caft.params.sets import BenchmarkParams
from caft.pictures.litter import is_litter
from caft.storage import in_checkout

Value = TypeVar("Value")
ROWS = "rows of another form"
_DEPTH = 3  # folders below that of a set in which its files are looked for, to name the place


@dataclass(frozen=True)
class Missing:
    """A set whose files are missing: it is reported as not run, with the `reason`; other sets are scored."""

    reason: str


class NotThereError(Exception):
    """Carries the missing path, and others that would do for it, to the loader."""

    def missing(self, benchmark: BenchmarkParams) -> Missing:
        """The files of a set are missing; says where they are if it is in a folder below."""
        if (found := _too_deep(folder_of(benchmark), self.args)) is not None:
            folder, within = found
            return Missing(f"{self.args[0]} not found; it is in {within}: move what is in that folder to {folder}")
        terms = "; its terms must be accepted first" if benchmark.gated else ""
        return Missing(f"{self.args[0]} not found; data/benchmarks/README.md says how to get it{terms}")


class OddRowError(Exception):
    """A row or record is not of its layout's form; says what was expected."""


def folder_of(benchmark: BenchmarkParams) -> Path:
    """Folder of a set."""
    return in_checkout(benchmark.path)


def _too_deep(folder: Path, places: Sequence[Path]) -> tuple[Path, Path] | None:
    """The folder of a set and that below it in which one of some places is, as after unpacking an archive there."""
    inside = (place.relative_to(folder) for place in places if place.is_relative_to(folder))
    names = [str(place) for place in inside if ".." not in place.parts]
    # What a layout leaves open, as in refs(...).p and dataset_<set>.json, may be anything.
    patterns = [re.sub(r"<\w+>|\.{3}", "*", glob.escape(name)) for name in names]
    level = [folder]
    for _ in range(_DEPTH):
        level = [below for above in level for below in folders_in(above)]
        if within := next((one for one in level for pattern in patterns if any(one.glob(pattern))), None):
            return folder, within
    return None


def folders_in(folder: Path) -> tuple[Path, ...]:
    """The folders in a folder, by name, without litter; none where it cannot be read."""
    try:
        return _folders_in(folder, folder.stat().st_mtime_ns)
    except (OSError, ValueError):
        return ()


@functools.lru_cache(maxsize=64)  # for it is asked for each of the pictures that are not in one
def _folders_in(folder: Path, changed: int) -> tuple[Path, ...]:
    with os.scandir(folder) as found:
        return tuple(folder / name for name in sorted(e.name for e in found if e.is_dir()) if not is_litter(name))


def present(path: Path) -> Path:
    """The path, if it exists.

    Raises:
        NotThereError: Nothing is.
    """
    if not path.exists():
        raise NotThereError(path)
    return path


def first_present(*places: Path) -> Path:
    """The first of several paths where something is.

    Raises:
        NotThereError: Nothing is; it names the first.
    """
    if (found := next((place for place in places if place.exists()), None)) is None:
        raise NotThereError(*places)
    return found


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without litter.

    Raises:
        DataError: It is no folder, or cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not is_litter(path.name))
    except OSError as error:
        raise DataError(f"{folder}: expected a folder that can be read, found: {error.strerror or error}") from None


def open_file(path: Path) -> BinaryIO:
    """Opens a file to be read as bytes.

    Raises:
        DataError: It is none, or may not be read.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def read_text(path: Path) -> str:
    """Content of a file in UTF-8; a byte order mark at its start is no part of it, and lines end as in Unix.

    Raises:
        DataError: It is not, or cannot be read.
    """
    with io.TextIOWrapper(open_file(path), encoding="utf-8-sig") as file:
        try:
            return file.read()
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: is not UTF-8 ({error}); download it again") from None


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        DataError: It is damaged.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no whole JSON file ({error}); download it again") from None


def read_lists(path: Path, *keys: str, optional: str | None = None) -> list[list[Any]]:
    """The lists that a JSON file holds under some keys; last that of a key which it may lack, empty then.

    Raises:
        DataError: It is damaged, or is no object with these lists.
    """
    content = read_json(path)
    for key in keys:
        found = content.get(key) if isinstance(content, Mapping) else None
        if not isinstance(found, list):
            raise DataError(
                f"{path}: expected a JSON object with a list as '{key}', found {_shown(content)}; download it again"
            )
    more = content.get(optional) if optional else None
    return [*(content[key] for key in keys), *([more if isinstance(more, list) else []] if optional else [])]


def read_lines(path: Path, findings: Findings) -> Iterator[tuple[str, Any]]:
    """Place, such as `data.jsonl:7`, and record of each line of a file of JSON lines; empty lines are none.

    A line that is no JSON is a bad item.

    Raises:
        DataError: The file is not UTF-8.
    """
    # Not splitlines(), which also splits at characters that may stand inside a JSON string.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        where = f"{path.name}:{number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line.lstrip("\ufeff"))  # of files that were joined
        except (ValueError, RecursionError) as error:
            findings.bad(ROWS, where, f"expected a JSON object, {error}")
            continue
        yield where, row


def field(record: Any, key: str, kind: type[Value]) -> Value:
    """A value of a record: a text, a list, or a whole number.

    Raises:
        OddRowError: The record is no object, or its value is of another type.
    """
    value = record.get(key) if isinstance(record, Mapping) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        words = {str: "a text", list: "a list", int: "a whole number"}[kind]
        raise OddRowError(f"expected a JSON object with {words} as '{key}', found {_shown(record)}")
    return value


def size_in(record: Any) -> tuple[int, int]:
    """Height and width of the record of a picture.

    Raises:
        OddRowError: They are no whole numbers above zero.
    """
    height, width = field(record, "height", int), field(record, "width", int)
    if min(height, width) < 1:
        raise OddRowError(f"expected a height and a width above zero, found {height} and {width}")
    return height, width


def box_in(record: Any, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Box x, y, width and height of a record, which must share area with a picture of some height and width.

    Raises:
        OddRowError: It is no box, or has no area there.
    """
    box = field(record, "bbox", list)
    if len(box) != 4 or any(isinstance(value, bool) or not isinstance(value, int | float) for value in box):
        raise OddRowError(f"box {_shown(box)}; expected four numbers x, y, width and height")
    x, y, width, height = map(float, box)
    if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
        raise OddRowError(f"box {_shown(box)}; expected a positive width and height")
    if x >= size[1] or y >= size[0] or x + width <= 0 or y + height <= 0:
        raise OddRowError(f"box {_shown(box)} lies outside the picture of {size[1]} x {size[0]} pixels")
    return x, y, width, height


def _shown(value: Any) -> str:
    return str(value)[:60]
