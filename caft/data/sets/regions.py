"""Region sets: boxes, each with the description that fits and with those that do not."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caft.data.sets.files import (
    Missing,
    NotThereError,
    check_count,
    first_present,
    folder_of,
    present,
    read_json,
    whose_image_is_there,
)
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
        skipped: Attribute files that are not there: the reason, by level.
    """

    images: list[Path]
    sizes: list[tuple[int, int]]
    regions: dict[str, list[Region]]
    expected: Mapping[str, int | None] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)


def load_regions(benchmark: BenchmarkParams) -> RegionSet | Missing:
    """Reads the files of FG-OVD that `boxes` names, else the four of `REGION_FILES`.

    An image's file name begins with the folder of its COCO split, `train2017/` or `val2017/`.

    Raises:
        DataError: The files are damaged, or are not of the expected counts.
    """
    folder = folder_of(benchmark)
    levels = list(benchmark.boxes or REGION_FILES)
    known = REGION_FILES | ATTRIBUTE_FILES
    if unknown := [level for level in levels if level not in known]:
        raise DataError(
            f"{folder}: no file for '{unknown[0]}' of the benchmark's key boxes; known are {', '.join(known)}"
        )
    skipped = {}
    try:
        for level in levels:
            if level in ATTRIBUTE_FILES and not (folder / known[level]).exists():
                skipped[level] = NotThereError(folder / known[level]).missing(benchmark).reason
                logger.warning("%s is not run: %s", level, skipped[level])
        files = {level: present(folder / known[level]) for level in levels if level not in skipped}
        pictures = first_present(folder / "coco", folder.parent / "coco")
        pictures = pictures / "images" if (pictures / "images").is_dir() else pictures
    except NotThereError as error:
        return error.missing(benchmark)
    numbers: dict[Path, int] = {}
    sizes: list[tuple[int, int]] = []
    regions: dict[str, list[Region]] = {}
    for level, file in files.items():
        read = _regions(file, read_json(file), pictures)
        there = whose_image_is_there(folder, benchmark, read, [path for path, _, _ in read])
        regions[level] = []
        for path, size, (box, positive, negatives) in there:
            if path not in numbers:
                numbers[path] = len(numbers)
                sizes.append(size)
            regions[level].append(Region(numbers[path], box, positive, negatives))
        check_count(file, benchmark, len(regions[level]), benchmark.boxes.get(level), f"boxes.{level}")
    check_count(folder, benchmark, sum(map(len, regions.values())), benchmark.pairs, "pairs")
    return RegionSet(list(numbers), sizes, regions, benchmark.boxes, skipped)


_Described = tuple[tuple[float, float, float, float], str, list[str]]


def _regions(file: Path, content: Any, pictures: Path) -> list[tuple[Path, tuple[int, int], _Described]]:
    """Image, its height and width, and box with descriptions, for every annotation; category ids are the file's own."""
    descriptions = {category["id"]: category["name"] for category in content["categories"]}
    images = {image["id"]: image for image in content["images"]}
    found = []
    for annotation in content["annotations"]:
        try:
            image = images[annotation["image_id"]]
            positive = descriptions[annotation["category_id"]]
            negatives = [descriptions[number] for number in annotation["neg_category_ids"]]
        except KeyError as error:
            raise DataError(f"{file}: annotation {annotation.get('id')} names {error}, which is not there") from None
        x, y, width, height = map(float, annotation["bbox"])
        if width <= 0 or height <= 0 or not negatives:
            raise DataError(
                f"{file}: annotation {annotation['id']}: box {annotation['bbox']} with {len(negatives)} negatives; "
                "expected a positive width and height, and at least one negative"
            )
        size = (image["height"], image["width"])
        found.append((pictures / image["file_name"], size, ((x, y, width, height), positive, negatives)))
    return found
