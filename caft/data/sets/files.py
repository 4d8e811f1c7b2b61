"""What all layouts share: files that may be absent, and counts that must be right."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from caft.errors import DataError
from caft.params.sets import BenchmarkParams
from caft.storage import in_checkout

logger = logging.getLogger(__name__)

Item = TypeVar("Item")


@dataclass(frozen=True)
class Missing:
    """A set whose files are missing: it is reported as not run, with the `reason`; other sets are scored."""

    reason: str


class NotThereError(Exception):
    """Carries the missing path to the loader."""

    def missing(self, benchmark: BenchmarkParams) -> Missing:
        """The files of a set are missing."""
        terms = "; its terms must be accepted first" if benchmark.gated else ""
        return Missing(f"{self.args[0]} not found; data/benchmarks/README.md says how to get it{terms}")


def folder_of(benchmark: BenchmarkParams) -> Path:
    """Folder of a set."""
    return in_checkout(benchmark.path)


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
    return next((place for place in places if place.exists()), None) or present(places[0])


def read_text(path: Path) -> str:
    """Content of a file in UTF-8.

    Raises:
        DataError: It is not.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 ({error}); download it again") from None


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        DataError: It is damaged.
    """
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise DataError(f"{path}: is no whole JSON file ({error}); download it again") from None


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Numbers, from 1, and records of a file with a JSON object in each line.

    Raises:
        DataError: A line is none.
    """
    # Not splitlines(), which also splits at characters that may stand inside a JSON string.
    for number, line in enumerate(read_text(path).rstrip("\n").split("\n"), start=1):
        try:
            yield number, json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: expected a JSON object, {error}; download the file again") from None


def whose_image_is_there(
    folder: Path, benchmark: BenchmarkParams, items: Sequence[Item], images: Sequence[Path]
) -> list[Item]:
    """The items whose image, at the same position in `images`, exists: all of them unless the set may be partial.

    Raises:
        DataError: Images are missing, and the set may not be partial.
    """
    absent = [image for image in images if not image.is_file()]
    if absent and not benchmark.partial:
        raise DataError(
            f"{folder}: {len(absent)} of {len(images)} images are not there, the first is {absent[0]}; "
            "complete the images, or move the folder away to leave the set out, or score what is there as partial data "
            "with `partial: true` in the benchmark's entry"
        )
    if absent:
        logger.warning("%s: %d of %d images are not there and left out", folder, len(absent), len(images))
    gone = set(absent)
    return [item for item, image in zip(items, images, strict=True) if image not in gone]


def check_count(folder: Path, benchmark: BenchmarkParams, found: int, expected: int | None, key: str) -> None:
    """Compares a count with the publisher's; a partial set may have fewer.

    Raises:
        DataError: It is another one, or zero.
    """
    what = key.split(".")[0]
    if not found:
        raise DataError(f"{folder}: expected {what}, found none")
    if expected is None or found == expected or (benchmark.partial and found < expected):
        return
    cure = (
        "take the publisher's files, or score what is there as partial data with `partial: true` in the benchmark's entry"
        if found < expected
        else "take the publisher's files and split"
    )
    raise DataError(f"{folder}: expected {expected} {what} (the benchmark's key {key}), found {found}; {cure}")
