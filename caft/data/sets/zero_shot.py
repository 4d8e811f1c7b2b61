"""Zero-shot classification sets: images of named classes."""

from dataclasses import dataclass
from pathlib import Path

from caft.data.sets.files import Missing, NotThereError, check_count, first_present, folder_of, present, read_text
from caft.errors import DataError
from caft.params.sets import BenchmarkParams

_SUFFIXES = {".jpeg", ".jpg", ".png"}


@dataclass(frozen=True)
class ZeroShotSet:
    """Images of named classes.

    Attributes:
        labels: Class of each image, its place in `classes`.
        classes: Names, as they go into a prompt.
        expected: How many images the publisher counts, where that is known.
    """

    images: list[Path]
    labels: list[int]
    classes: list[str]
    expected: int | None = None


def load_zero_shot(benchmark: BenchmarkParams) -> ZeroShotSet | Missing:
    """Reads a set in the layout of ImageNet: `val/<wnid>/*.JPEG` and `classnames.txt`, a wnid and a name in each line.

    Raises:
        DataError: The files are damaged, or are not of the expected counts.
    """
    folder = folder_of(benchmark)
    try:
        pictures = first_present(folder / "val", folder / "images" / "val")
        file = present(folder / "classnames.txt")
    except NotThereError as error:
        return error.missing(benchmark)
    names: dict[str, str] = {}
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        wnid, _, name = line.strip().partition(" ")
        if not name.strip() or wnid in names:
            raise DataError(f"{file}:{number}: expected a class and its name, each class once; found {line[:60]!r}")
        names[wnid] = name.strip()
    check_count(file, benchmark, len(names), benchmark.classes, "classes")
    images, labels = [], []
    for place in sorted(pictures.iterdir()):
        if not place.is_dir() or place.name not in names:
            raise DataError(f"{place}: expected folders that {file} names; sort the pictures into one for each class")
        found = sorted(path for path in place.iterdir() if path.suffix.lower() in _SUFFIXES)
        images += found
        labels += [list(names).index(place.name)] * len(found)
    check_count(folder, benchmark, len(images), benchmark.images, "images")
    return ZeroShotSet(images, labels, list(names.values()), benchmark.images)
