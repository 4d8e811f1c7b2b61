"""The evaluation sets, read from the files in which they are published; one class and one loader for each kind."""

import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caft.data.masks import decode_mask
from caft.errors import DataError
from caft.params import BenchmarkParams

# FG-OVD's files by the name of their score: one, two or three attributes tell the negatives apart, or the whole text.
REGION_FILES = {
    "hard": "1_attributes.json",
    "medium": "2_attributes.json",
    "easy": "3_attributes.json",
    "trivial": "shuffle_negatives.json",
}


@dataclass(frozen=True)
class Missing:
    """A set whose files are not there: it is reported as not run, with the `reason`, and the others are scored."""

    reason: str


@dataclass(frozen=True)
class RetrievalSet:
    """Images and long captions that belong to each other, one to one.

    Attributes:
        ids: What the set's files call each pair.
        images: Files.
        captions: Texts, none empty.
    """

    ids: list[str]
    images: list[Path]
    captions: list[str]


@dataclass(frozen=True)
class Expression:
    """A text that means one object of an image; `annotation` is that object's id."""

    text: str
    annotation: int


@dataclass(frozen=True)
class ReferringImage:
    """An image with its objects and the expressions that mean them.

    Attributes:
        path: File.
        height: In pixels.
        width: In pixels.
        segmentations: COCO form of every object, also of those that no expression means, by annotation id.
        expressions: In the set's order.
        categories: Name of each object's category by annotation id, where the set has one.
    """

    path: Path
    height: int
    width: int
    segmentations: Mapping[int, Any]
    expressions: Sequence[Expression]
    categories: Mapping[int, str] = field(default_factory=dict)

    @property
    def masks(self) -> dict[int, NDArray[np.bool_]]:
        """Mask of every object, (height, width), by annotation id; rasterised anew at each use, for they are large.

        Raises:
            DataError: A segmentation cannot be read.
        """
        decoded = {}
        for annotation, segmentation in self.segmentations.items():
            try:
                decoded[annotation] = decode_mask(segmentation, self.height, self.width)
            except ValueError as error:
                raise DataError(f"{self.path.name}: annotation {annotation}: {error}") from None
        return decoded


@dataclass(frozen=True)
class ReferringSet:
    """Referring expressions, one sample for each sentence of each reference, grouped by image."""

    images: list[ReferringImage]


@dataclass(frozen=True)
class Region:
    """A box with the description that fits and those that do not.

    Attributes:
        image: Index into the set's images.
        box: x, y, width and height in pixels of the original image.
        positive: The right description.
        negatives: Wrong ones, at least one.
    """

    image: int
    box: tuple[float, float, float, float]
    positive: str
    negatives: Sequence[str]


@dataclass(frozen=True)
class RegionSet:
    """FG-OVD's boxes by difficulty, a key of `REGION_FILES`, over `images` of `sizes` (height, width)."""

    images: list[Path]
    sizes: list[tuple[int, int]]
    regions: dict[str, list[Region]]


def load_retrieval(benchmark: BenchmarkParams) -> RetrievalSet | Missing:
    """Reads a set in the layout of Urban-1k or of DOCCI.

    Raises:
        DataError: The files are incomplete, or are not what the layout or the expected count says.
    """
    folder = Path(benchmark.path)
    try:
        rows = list({"urban1k": _urban1k, "docci": _docci}[benchmark.layout](folder))
    except _NotThereError as error:
        return error.missing()
    for identity, _, caption in rows:
        if not caption:
            raise DataError(
                f"{folder}: the caption of {identity} is empty; take the publisher's original files "
                "(a known copy of Urban-1k lost the caption of image 592)"
            )
    images = [image for _, image, _ in rows]
    _check_images(folder, images)
    _check_count(folder, benchmark, len(rows), "pairs")
    return RetrievalSet([row[0] for row in rows], images, [row[2] for row in rows])


def load_referring(benchmark: BenchmarkParams) -> ReferringSet | Missing:
    """Reads a split in the layout of the `refer` package: `<path>/<name>/instances.json` and `refs(<split_by>).p`.

    Raises:
        DataError: The files are damaged, do not belong together, or are not of the expected count.
    """
    root = Path(benchmark.path)
    if benchmark.name is None or benchmark.split is None:
        raise DataError(f"{root}: a benchmark of layout refer needs the keys name (a folder in path) and split")
    folder = root / benchmark.name
    try:
        instances = _read_json(_present(folder / "instances.json"))
        references = _references(folder, benchmark.split_by)
        pictures = _images_folder(root, "train2014", ("images", "../images", "images/mscoco/images"))
    except _NotThereError as error:
        return error.missing()
    chosen = [reference for reference in references if reference["split"] == benchmark.split]
    if not chosen:
        known = ", ".join(sorted({str(reference["split"]) for reference in references}))
        raise DataError(f"{folder}: no reference of split '{benchmark.split}'; found {known}")
    expressions: dict[int, list[Expression]] = {}
    for reference in chosen:
        expressions.setdefault(reference["image_id"], []).extend(
            Expression(sentence["sent"], reference["ann_id"]) for sentence in reference["sentences"]
        )
    objects: dict[int, dict[int, Any]] = {image: {} for image in expressions}
    names = {category["id"]: category["name"] for category in instances.get("categories", [])}
    categories: dict[int, dict[int, str]] = {image: {} for image in expressions}
    for annotation in instances["annotations"]:
        # A crowd is a region, not an object.
        if annotation["image_id"] in objects and not annotation.get("iscrowd"):
            objects[annotation["image_id"]][annotation["id"]] = annotation["segmentation"]
            if annotation.get("category_id") in names:
                categories[annotation["image_id"]][annotation["id"]] = names[annotation["category_id"]]
    sizes = {image["id"]: (image["height"], image["width"]) for image in instances["images"]}
    images = []
    for identity in sorted(expressions):
        meant = {expression.annotation for expression in expressions[identity]}
        if identity not in sizes or not meant <= set(objects[identity]):
            raise DataError(
                f"{folder}: image {identity} or its annotations {sorted(meant)} are not in instances.json; "
                "it and the references must come from one archive"
            )
        # Not the reference's file_name, which carries a suffix.
        path = pictures / f"COCO_train2014_{identity:012d}.jpg"
        images.append(
            ReferringImage(path, *sizes[identity], objects[identity], expressions[identity], categories[identity])
        )
    _check_images(root, [image.path for image in images])
    _check_count(folder, benchmark, sum(len(image.expressions) for image in images), "expressions")
    return ReferringSet(images)


def load_regions(benchmark: BenchmarkParams) -> RegionSet | Missing:
    """Reads the four files of FG-OVD; an image's file name begins with the folder of its COCO split.

    Raises:
        DataError: The files are damaged, or are not of the expected count.
    """
    folder = Path(benchmark.path)
    try:
        files = {level: _present(folder / file) for level, file in REGION_FILES.items()}
        pictures = _images_folder(folder, "", ("coco", "../coco"))
    except _NotThereError as error:
        return error.missing()
    numbers: dict[Path, int] = {}
    sizes: list[tuple[int, int]] = []
    regions: dict[str, list[Region]] = {}
    for level, file in files.items():
        content = _read_json(file)
        descriptions = {category["id"]: category["name"] for category in content["categories"]}
        images = {image["id"]: image for image in content["images"]}
        regions[level] = []
        for annotation in content["annotations"]:
            try:
                image = images[annotation["image_id"]]
                positive = descriptions[annotation["category_id"]]
                negatives = [descriptions[number] for number in annotation["neg_category_ids"]]
            except KeyError as error:
                raise DataError(
                    f"{file}: annotation {annotation.get('id')} names {error}, which is not there"
                ) from None
            x, y, width, height = map(float, annotation["bbox"])
            if width <= 0 or height <= 0 or not negatives:
                raise DataError(
                    f"{file}: annotation {annotation['id']}: box {annotation['bbox']} with {len(negatives)} negatives; "
                    "expected a positive width and height, and at least one negative"
                )
            path = pictures / image["file_name"]
            if path not in numbers:
                numbers[path] = len(numbers)
                sizes.append((image["height"], image["width"]))
            regions[level].append(Region(numbers[path], (x, y, width, height), positive, negatives))
    _check_images(folder, list(numbers))
    _check_count(folder, benchmark, sum(map(len, regions.values())), "boxes in the four files together")
    return RegionSet(list(numbers), sizes, regions)


# ---------------------------------------------------------------------- layouts


def _urban1k(folder: Path) -> Iterator[tuple[str, Path, str]]:
    """`image/<number>.jpg` (or `images/`) and `caption/<number>.txt`, in the order of the numbers."""
    pictures = _present(folder / "images" if (folder / "images").is_dir() else folder / "image")
    texts = _present(folder / "caption")
    stems = {
        kind: {path.stem for path in place.glob(f"*.{kind}")} for kind, place in (("jpg", pictures), ("txt", texts))
    }
    if lonely := sorted(stems["jpg"] ^ stems["txt"]):
        raise DataError(
            f"{folder}: {len(lonely)} images or captions without their partner, the first is {lonely[0]}; "
            f"every {pictures.name}/<number>.jpg needs caption/<number>.txt"
        )
    if strange := sorted(stem for stem in stems["txt"] if not stem.isdecimal()):
        raise DataError(f"{texts}: file names must be numbers, found {strange[0]}.txt")
    for stem in sorted(stems["txt"], key=int):
        yield stem, pictures / f"{stem}.jpg", (texts / f"{stem}.txt").read_text(encoding="utf-8").strip()


def _docci(folder: Path) -> Iterator[tuple[str, Path, str]]:
    """`docci_descriptions.jsonlines`, in the folder or in `annotations/`, and `images/`; the split `test` alone."""
    inner = folder / "annotations" / "docci_descriptions.jsonlines"
    file = inner if inner.is_file() else _present(folder / "docci_descriptions.jsonlines")
    pictures = _present(folder / "images")
    # Not splitlines(), which also splits at characters that may stand inside a JSON string.
    for number, line in enumerate(file.read_text(encoding="utf-8").rstrip("\n").split("\n"), start=1):
        try:
            row = json.loads(line)
            # Equal, not contained: `qual_test` is another split.
            if row["split"] == "test":
                yield row["example_id"], pictures / row["image_file"], row["description"].strip()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{file}:{number}: expected a JSON object with example_id, split, image_file and description; "
                f"{type(error).__name__}: {error}"
            ) from None


class _PlainUnpickler(pickle.Unpickler):
    """Reads containers, numbers and strings; a pickle that names any class or function is refused."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}, and only plain containers are read")


def _references(folder: Path, split_by: str | None) -> list[dict[str, Any]]:
    files = sorted(folder.glob("refs(*).p")) if split_by is None else [folder / f"refs({split_by}).p"]
    if len(files) > 1:
        found = ", ".join(file.name[5:-3] for file in files)
        raise DataError(f"{folder}: split by several; set the benchmark's split_by to one of {found}")
    path = _present(files[0] if files else folder / "refs(...).p")
    needed = {"image_id", "ann_id", "split", "sentences"}
    try:
        with path.open("rb") as file:
            references = _PlainUnpickler(file, encoding="latin1").load()  # the published files come from Python 2
        if not isinstance(references, list) or not all(needed <= set(reference) for reference in references):
            raise pickle.UnpicklingError(f"it is no list of dicts with {', '.join(sorted(needed))}")
    except Exception as error:  # a damaged pickle raises errors of many kinds
        raise DataError(f"{path}: cannot be read: {error}; download it again") from None
    return references


# ---------------------------------------------------------------------- checks


class _NotThereError(Exception):
    """Carries the missing path to the loader."""

    def missing(self) -> Missing:
        return Missing(f"{self.args[0]} not found; data/benchmarks/README.md says how to get it")


def _present(path: Path) -> Path:
    if not path.exists():
        raise _NotThereError(path)
    return path


def _images_folder(folder: Path, inner: str, places: Sequence[str]) -> Path:
    found = (folder / place / inner for place in places if (folder / place / inner).is_dir())
    return next(found, None) or _present(folder / places[0] / inner)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: is no whole JSON file ({error}); download it again") from None


def _check_images(folder: Path, images: Sequence[Path]) -> None:
    if absent := [image for image in images if not image.is_file()]:
        raise DataError(
            f"{folder}: {len(absent)} of {len(images)} images are not there, the first is {absent[0]}; "
            "complete the images, or move the folder away to leave the set out"
        )


def _check_count(folder: Path, benchmark: BenchmarkParams, found: int, what: str) -> None:
    if not found:
        raise DataError(f"{folder}: expected {what}, found none")
    if benchmark.pairs is not None and found != benchmark.pairs:
        raise DataError(f"{folder}: expected {benchmark.pairs} {what} (the benchmark's key pairs), found {found}")
