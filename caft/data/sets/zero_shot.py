"""Zero-shot classification sets: images of named classes."""

from dataclasses import dataclass
from pathlib import Path

from caft.captions.words import unreadable
from caft.data.sets.files import (
    Missing,
    NotThereError,
    entries,
    first_present,
    folder_of,
    folders_in,
    present,
    read_text,
)
from caft.data.sets.findings import Findings, LeftOut
from caft.data.sets.pictures import ENDINGS, can_be_scored, is_named_as_picture, note_folders, note_others
from caft.params.sets import BenchmarkParams


@dataclass(frozen=True)
class ZeroShotSet:
    """Images of named classes.

    Attributes:
        labels: Class of each image, its place in `classes`.
        classes: Names, as they go into a prompt.
        expected: How many images the publisher counts, where that is known.
        left_out: What of it is not here.
    """

    images: list[Path]
    labels: list[int]
    classes: list[str]
    expected: int | None = None
    left_out: LeftOut = LeftOut()


def load_zero_shot(benchmark: BenchmarkParams) -> ZeroShotSet | Missing:
    """Reads a set in the layout of ImageNet: `val/<wnid>/*.JPEG` and `classnames.txt`, a wnid and a name in each line.

    Raises:
        BadItemsError: Classes or images cannot be scored, unless the set may be partial; or counts are not the expected.
        DataError: The files cannot be read.
    """
    folder = folder_of(benchmark)
    findings = Findings(folder, benchmark)
    try:
        pictures = first_present(folder / "val", folder / "images" / "val")
        file = present(folder / "classnames.txt")
    except NotThereError as error:
        return error.missing(benchmark)
    names = _names(file, findings)
    findings.count(len(names), benchmark.classes, "classes", file)
    places = {wnid: place for place, wnid in enumerate(names)}
    images, labels, empty = [], [], set(names)
    for place in entries(pictures):
        if place.is_dir() and place.name in places:
            files = entries(place)
            others, folders = note_others(files, findings), note_folders(files, findings)
            found = [path for path in files if path.suffix.lower() in ENDINGS and path not in folders]
            empty -= {place.name} if found or others or folders else set()
            scored = [path for path in found if can_be_scored(path, findings)]
            images += scored
            labels += [places[place.name]] * len(scored)
        elif place.is_dir() or is_named_as_picture(place):
            holds_classes = any(folder.name in places for folder in folders_in(place))
            expected = "move what is in it up by one folder" if holds_classes else "sort the pictures"
            why = f"expected folders that {file.name} names; {expected}"
            findings.bad("folders or images of no class", place.name, why)
    for wnid in names:
        if wnid in empty:
            there = "an empty folder" if (pictures / wnid).is_dir() else "no folder"
            findings.bad("classes without images", wnid, f"{file.name} names it, and {pictures.name} has {there} of it")
    findings.count(len(images), benchmark.images, "images")
    return ZeroShotSet(images, labels, list(names.values()), benchmark.images, findings.settle())


def _names(file: Path, findings: Findings) -> dict[str, str]:
    """Names by class, in the order of the file."""
    names: dict[str, str] = {}
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        wnid, *rest = line.split(maxsplit=1)
        name = rest[0].strip() if rest else ""
        if wnid in names or unreadable(name):
            why = f"expected a class and its name, each class once; found {line[:60]!r}"
            findings.bad("classes without a name of their own", f"{file.name}:{number}", why)
        else:
            names[wnid] = name
    return names
