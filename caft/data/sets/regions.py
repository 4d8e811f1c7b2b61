"""Region sets: boxes, each with the description that fits and with those that do not."""

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute
from pathlib import Path
from typing import Any

from caft.captions.tokenizer import CONTEXT, clean, encode
from caft.captions.words import unreadable
from caft.data.sets.files import (
    Missing,
    NotThereError,
    OddRowError,
    box_in,
    field,
    first_present,
    folder_of,
    present,
    read_lists,
    size_in,
)
from caft.data.sets.findings import Findings, LeftOut
from caft.data.sets.pictures import can_be_scored, find_picture
from caft.errors import DataError
from caft.params.sets import BenchmarkParams

logger = logging.getLogger(__name__)

# FG-OVD's files by the name of their score: one, two or three attributes tell the negatives apart, or the whole text.
REGION_FILES = {
    "hard": "1_attributes.json",
    "medium": "2_attributes.json",
    "easy": "3_attributes.json",
    "trivial": "shuffle_negatives.json",
}
# Those in which the negatives differ in one kind of attribute; no other score depends on them.
ATTRIBUTE_FILES = {level: f"{level}.json" for level in ("color", "material", "pattern", "transparency")}


@dataclass(frozen=True)
class Region:
    """A box with the description that fits and those that do not.

    Attributes:
        image: Index into the set's images.
        box: x, y, width and height in pixels of the original image.
        negatives: Wrong descriptions, at least one.
    """

    image: int
    box: tuple[float, float, float, float]
    positive: str
    negatives: Sequence[str]


@dataclass(frozen=True)
class RegionSet:
    """FG-OVD's boxes.

    Attributes:
        sizes: Height and width of each.
        regions: Boxes by level, a key of `REGION_FILES` or `ATTRIBUTE_FILES`.
        expected: How many the publisher counts, by level, where that is known; more than here in a partial set.
        skipped: Files that are not there or, in a partial set, have nothing to score: the reason, by level.
        left_out: What of it is not here.
    """

    images: list[Path]
    sizes: list[tuple[int, int]]
    regions: dict[str, list[Region]]
    expected: Mapping[str, int | None] = attribute(default_factory=dict)
    skipped: Mapping[str, str] = attribute(default_factory=dict)
    left_out: LeftOut = LeftOut()


def load_regions(benchmark: BenchmarkParams) -> RegionSet | Missing:
    """Reads the files of FG-OVD that `boxes` names, else the four of `REGION_FILES`; those that are there.

    An image's file name begins with the folder of its COCO split, `train2017/` or `val2017/`.

    Raises:
        BadItemsError: Boxes, their descriptions or images cannot be scored, unless the set may be partial; or counts are
            not the expected.
        DataError: The files are damaged.
    """
    folder = folder_of(benchmark)
    levels = list(benchmark.boxes or REGION_FILES)
    known = REGION_FILES | ATTRIBUTE_FILES
    if unknown := [level for level in levels if level not in known]:
        raise DataError(
            f"{folder}: no file for '{unknown[0]}' of the benchmark's key boxes; known are {', '.join(known)}"
        )
    files = {level: folder / known[level] for level in levels if (folder / known[level]).exists()}
    try:
        if not files:
            present(folder / known[levels[0]])
        pictures = first_present(folder / "coco", folder.parent / "coco")
    except NotThereError as error:
        return error.missing(benchmark)
    pictures = pictures / "images" if (pictures / "images").is_dir() else pictures
    skipped = {
        level: NotThereError(folder / known[level]).missing(benchmark).reason for level in levels if level not in files
    }
    findings = Findings(folder, benchmark)
    numbers: dict[Path, int] = {}
    sizes: list[tuple[int, int]] = []
    regions: dict[str, list[Region]] = {}
    for level, file in files.items():
        regions[level] = []
        for path, size, described in _regions(file, pictures, findings):
            if path not in numbers:
                numbers[path] = len(numbers)
                sizes.append(size)
            regions[level].append(Region(numbers[path], *described))
        if benchmark.partial and not regions[level]:
            skipped[level] = f"no box of {file} can be scored"
            del regions[level]
        else:
            findings.count(len(regions[level]), benchmark.boxes.get(level), f"boxes.{level}", file)
    for level, reason in skipped.items():
        logger.warning("%s is not run: %s", level, reason)
    # A total tells nothing where a file is missing.
    findings.count(sum(map(len, regions.values())), None if skipped else benchmark.pairs, "pairs")
    return RegionSet(list(numbers), sizes, regions, benchmark.boxes, skipped, findings.settle())


_Described = tuple[tuple[float, float, float, float], str, list[str]]


def _regions(file: Path, pictures: Path, findings: Findings) -> Iterator[tuple[Path, tuple[int, int], _Described]]:
    """Image, its height and width, and box with descriptions, for every annotation; category ids are the file's own."""
    lists = read_lists(file, "images", "annotations", "categories")
    images, categories = ({_id(entry): entry for entry in entries} for entries in (lists[0], lists[2]))
    looked: dict[int, tuple[Path, tuple[int, int]] | None] = {}
    for place, annotation in enumerate(lists[1]):
        number = _id(annotation)
        where = f"{file.name}: annotation {number if number is not None else f'at place {place}'}"
        try:
            image = field(annotation, "image_id", int)
            if image not in images:
                raise OddRowError(f"names image {image}, which is not there")
            if image not in looked:
                size = size_in(images[image])
                path = find_picture(pictures / field(images[image], "file_name", str))
                looked[image] = (path, size) if can_be_scored(path, findings, size=size) else None
            if (found := looked[image]) is None:
                continue
            described = (box_in(annotation, found[1]), *_descriptions(annotation, categories))
        except OddRowError as error:
            findings.bad("boxes of another form", where, str(error))
            continue
        yield *found, described


def _descriptions(annotation: Mapping[str, Any], categories: Mapping[int | None, Any]) -> tuple[str, list[str]]:
    """The description that fits a box, and those that do not."""
    texts = []
    wrong = field(annotation, "neg_category_ids", list)
    for number in (field(annotation, "category_id", int), *wrong):
        if not isinstance(number, int) or number not in categories:
            raise OddRowError(f"names {str(number)[:60]}, which is not there")
        texts.append(field(categories[number], "name", str))
        if why := unreadable(texts[-1]):
            raise OddRowError(f"description {number} {why}")
    if not wrong:
        raise OddRowError("box with 0 negatives; expected at least one")
    if _as_read(texts[0]) in map(_as_read, texts[1:]):  # equal to a model: the box is lost whatever it knows
        raise OddRowError(f"its description, {texts[0][:40]!r}, is among the false ones")
    return texts[0], texts[1:]


@functools.lru_cache(100_000)
def _as_read(text: str) -> str | tuple[int, ...]:
    """What a model reads of a text: of one that is too long for it, the tokens that it takes."""
    cleaned = clean(text)
    return cleaned if len(cleaned) < CONTEXT else tuple(encode(text)[: CONTEXT - 2])


def _id(record: Any) -> int | None:
    value = record.get("id") if isinstance(record, Mapping) else None
    return value if isinstance(value, int) else None
