"""Referring sets: images with objects, and expressions that mean one of them.

The references of `refer` are a pickle of Python 2, which is read once and kept beside as a table.
"""

import hashlib
import io
import logging
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from caft.captions.words import unreadable
from caft.data.sets.files import (
    ROWS,
    Missing,
    NotThereError,
    OddRowError,
    first_present,
    folder_of,
    open_file,
    present,
    read_lists,
    size_in,
)
from caft.data.sets.findings import Findings, LeftOut
from caft.data.sets.masks import decode_mask, mask_area
from caft.data.sets.pictures import can_be_scored, find_picture, open_annotated
from caft.errors import DataError
from caft.params.sets import BenchmarkParams
from caft.storage import replacing

if TYPE_CHECKING:  # not installed by those who only use a model, and they import the sets' classes
    import pyarrow as pa

logger = logging.getLogger(__name__)

_NEEDED = {"image_id", "ann_id", "split", "sentences"}
# A smaller pickle is read as fast as its table.
_WORTH_KEEPING = 1_000_000
_FOREIGN = "references that instances.json does not have"
_ONE_ARCHIVE = "it and the references must come from one archive"
_KEY = b"sha256 of the pickle, with references without sentences"


@dataclass(frozen=True)
class Expression:
    """A text that means one object of an image; `annotation` is that object's id."""

    text: str
    annotation: int


@dataclass(frozen=True)
class ReferringImage:
    """An image with its objects and the expressions that mean them.

    Attributes:
        height: In pixels, as `width`.
        segmentations: COCO form of every object that has a mask, also of those that no expression means, by annotation
            id.
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
    def picture(self) -> Image.Image:
        """The picture as its annotations saw it, RGB, of this height and width.

        Raises:
            DataError: It is of another size, or cannot be decoded.
        """
        return open_annotated(self.path, (self.height, self.width))

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
    """Referring expressions, one sample for each sentence of each reference, grouped by image.

    Attributes:
        images: With their objects and expressions, in the order of their numbers.
        expected: How many expressions the publisher counts, where that is known; more than here in a partial set.
        left_out: What of it is not here.
    """

    images: list[ReferringImage]
    expected: int | None = None
    left_out: LeftOut = LeftOut()


def load_referring(benchmark: BenchmarkParams) -> ReferringSet | Missing:
    """Reads a split in the layout of the `refer` package: `<path>/<name>/instances.json` and `refs(<split_by>).p`.

    An expression is the lower-cased sentence `sent`. Pictures are COCO's, in `train2014/`.

    Raises:
        BadItemsError: Expressions, their objects or images cannot be scored, unless the set may be partial; or counts are
            not the expected.
        DataError: The files are damaged.
    """
    root = folder_of(benchmark)
    folder = root / (benchmark.name or "")  # the settings have it, and `split`, for this layout
    try:
        instances = present(folder / "instances.json")
        rows = read_references(_pickle(folder, benchmark.split_by)).to_pylist()
        places = ("images", "../images", "images/mscoco/images", "../coco", "../coco/images")
        pictures = first_present(*(root / place / "train2014" for place in places))
    except NotThereError as error:
        return error.missing(benchmark)
    chosen = [row for row in rows if row["split"] == benchmark.split]
    if not chosen:
        known = ", ".join(sorted({str(row["split"]) for row in rows}))
        raise DataError(f"{folder}: no reference of split '{benchmark.split}'; found {known}")
    findings = Findings(folder, benchmark)
    found = _images(instances, chosen, pictures, findings)
    images = [scored for image in found if (scored := _scored(image, findings)) is not None]
    findings.count(sum(len(image.expressions) for image in images), benchmark.pairs, "pairs")
    findings.count(len(images), benchmark.images, "images")
    findings.count(len({row["reference"] for row in chosen}), benchmark.references, "references")
    left_out = findings.settle()
    if left_out.skipped_objects:
        logger.warning(
            "%s: %d objects that no expression means have no mask; the controls are without them",
            folder, left_out.skipped_objects,
        )  # fmt: skip
    return ReferringSet(images, benchmark.pairs, left_out)


def _images(
    file: Path, rows: Sequence[Mapping[str, Any]], pictures: Path, findings: Findings
) -> Iterator[ReferringImage]:
    """The images that rows of references mean, with all their objects and expressions."""
    expressions: dict[int, list[Expression]] = {}
    for row in rows:
        if row["image_id"] is None or row["ann_id"] is None:
            findings.bad(ROWS, f"reference {row['reference']}", "expected numbers as image_id and ann_id")
            continue
        expressions.setdefault(row["image_id"], []).append(Expression(row["sent"] or "", row["ann_id"]))
    records, annotations, named = read_lists(file, "images", "annotations", optional="categories")
    objects: dict[int, dict[int, Any]] = {image: {} for image in expressions}
    names = {_whole(entry, "id"): name for entry in named if (name := _name(entry))}
    categories: dict[int, dict[int, str]] = {image: {} for image in expressions}
    for annotation in annotations:
        image, number = _whole(annotation, "image_id"), _whole(annotation, "id")
        # A crowd is a region, not an object.
        if image not in objects or annotation.get("iscrowd"):
            continue
        if number is None:
            findings.skipped_objects += 1
        else:
            objects[image][number] = annotation.get("segmentation")
            if (category := _whole(annotation, "category_id")) in names:
                categories[image][number] = names[category]
    known = {_whole(record, "id"): record for record in records}
    for identity in sorted(expressions):
        if identity not in known:
            findings.bad(_FOREIGN, f"image {identity}", _ONE_ARCHIVE)
            continue
        try:
            size = size_in(known[identity])
        except OddRowError as error:
            findings.bad(ROWS, f"{file.name}, image {identity}", str(error))
            continue
        # Not the reference's file_name, which carries a suffix.
        path = find_picture(pictures / f"COCO_train2014_{identity:012d}.jpg")
        yield ReferringImage(path, *size, objects[identity], expressions[identity], categories[identity])


def _scored(image: ReferringImage, findings: Findings) -> ReferringImage | None:
    """The image without what cannot be scored; None where nothing is left of it."""
    if not can_be_scored(image.path, findings, size=(image.height, image.width)):
        return None
    faults = {number: why for number, form in image.segmentations.items() if (why := _fault(form, image))}
    expressions = []
    for expression in image.expressions:
        number = expression.annotation
        where = f"{image.path.name}, annotation {number}"
        if number not in image.segmentations:
            findings.bad(_FOREIGN, where, _ONE_ARCHIVE)
        elif number in faults:
            findings.bad("expressions of an object without a mask", where, faults[number])
        elif (wordless := unreadable(expression.text)) is not None:
            findings.bad("expressions without words", where, wordless)
        else:
            expressions.append(expression)
    findings.skipped_objects += len(faults.keys() - {expression.annotation for expression in image.expressions})
    objects = {number: form for number, form in image.segmentations.items() if number not in faults}
    categories = {number: name for number, name in image.categories.items() if number not in faults}
    return (
        replace(image, segmentations=objects, expressions=expressions, categories=categories) if expressions else None
    )


def _fault(segmentation: Any, image: ReferringImage) -> str:
    """Why an object has no mask; empty where it has one."""
    try:
        return "" if mask_area(segmentation, image.height, image.width) else "its mask has no pixel"
    except ValueError as error:
        return str(error)


def _name(category: Any) -> str | None:
    """Name of a category that has one."""
    name = category.get("name") if isinstance(category, Mapping) else None
    return name if isinstance(name, str) and unreadable(name) is None else None


def _whole(record: Any, key: str) -> int | None:
    value = record.get(key) if isinstance(record, Mapping) else None
    return value if isinstance(value, int) else None


def _pickle(folder: Path, split_by: str | None) -> Path:
    files = sorted(folder.glob("refs(*).p")) if split_by is None else [folder / f"refs({split_by}).p"]
    if len(files) > 1:
        found = ", ".join(file.name[5:-3] for file in files)
        raise DataError(f"{folder}: split by several; set the benchmark's split_by to one of {found}")
    return present(files[0] if files else folder / "refs(...).p")


# ---- references


def schema() -> "pa.Schema":
    """Of the table: a row for each sentence; `reference` is the place of its reference in the pickle."""
    import pyarrow as pa

    from caft.data.tables import meanings

    numbers = [(name, pa.int64()) for name in ("reference", "image_id", "ann_id")]
    texts = [(name, pa.string()) for name in ("split", "sent", "raw")]
    return meanings.schema([*numbers, *texts], other={"raw": ("expression as it was written", "")})


def read_references(path: Path) -> "pa.Table":
    """References of a pickle `refs(<split by>).p` as a table of `schema`.

    The table of a large pickle is kept as `refs(<split by>).parquet`, if the folder can be written, and made anew when
    the pickle changes.

    Raises:
        DataError: It is damaged, cannot be read, or asks for more than plain containers.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_file(path) as file:
        content = file.read()
    digest = hashlib.sha256(content).hexdigest().encode()
    kept = path.with_suffix(".parquet")
    if kept.is_file():
        try:
            table = pq.read_table(kept)
        except (OSError, pa.ArrowException):
            table = None
        if table is not None and (table.schema.metadata or {}).get(_KEY) == digest and table.schema.equals(schema()):
            return table
    table = _table(path, content).replace_schema_metadata({_KEY: digest})
    if len(content) >= _WORTH_KEEPING:
        try:
            with replacing(kept) as temporary:
                pq.write_table(table, temporary)
        except OSError as error:
            logger.info("%s: not kept (%s); the pickle is read each time", kept, error)
    return table


class _PlainUnpickler(pickle.Unpickler):
    """Reads containers, numbers and strings; a pickle that names any class or function is refused."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}, and only plain containers are read")


def _table(path: Path, content: bytes) -> "pa.Table":
    import pyarrow as pa

    try:
        references = _PlainUnpickler(io.BytesIO(content), encoding="latin1").load()  # they come from Python 2
        if not isinstance(references, list) or not all(_NEEDED <= set(reference) for reference in references):
            raise pickle.UnpicklingError(f"it is no list of dicts with {', '.join(sorted(_NEEDED))}")
        rows = [
            {
                "reference": number,
                **{key: reference[key] for key in ("image_id", "ann_id", "split")},
                "sent": sentence["sent"],
                "raw": sentence.get("raw"),
            }
            for number, reference in enumerate(references)
            for sentence in reference["sentences"] or [{"sent": None}]
        ]
        return pa.Table.from_pylist(rows, schema())
    except Exception as error:  # a damaged pickle raises errors of many kinds
        raise DataError(f"{path}: cannot be read: {error}; download it again") from None
