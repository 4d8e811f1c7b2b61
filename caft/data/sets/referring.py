"""Referring sets: images with objects, and expressions that mean one of them.

The references of `refer` are a pickle of Python 2, which is read once and kept beside as a table.
"""

import hashlib
import io
import logging
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

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
from caft.data.sets.masks import decode_mask
from caft.errors import DataError
from caft.params.sets import BenchmarkParams
from caft.storage import replacing

if TYPE_CHECKING:  # not installed by those who only use a model, and they import the sets' classes
    import pyarrow as pa

logger = logging.getLogger(__name__)

_NEEDED = {"image_id", "ann_id", "split", "sentences"}
# A smaller pickle is read as fast as its table.
_WORTH_KEEPING = 1_000_000
_KEY = b"sha256 of the pickle"


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
    """Referring expressions, one sample for each sentence of each reference, grouped by image.

    Attributes:
        images: With their objects and expressions, in the order of their numbers.
        expected: How many expressions the publisher counts, where that is known; more than here in a partial set.
    """

    images: list[ReferringImage]
    expected: int | None = None


def load_referring(benchmark: BenchmarkParams) -> ReferringSet | Missing:
    """Reads a split in the layout of the `refer` package: `<path>/<name>/instances.json` and `refs(<split_by>).p`.

    An expression is the lower-cased sentence `sent`. Pictures are COCO's, in `train2014/`.

    Raises:
        DataError: The files are damaged, do not belong together, or are not of the expected counts.
    """
    root = folder_of(benchmark)
    folder = root / (benchmark.name or "")  # the settings have it, and `split`, for this layout
    try:
        instances = read_json(present(folder / "instances.json"))
        rows = read_references(_pickle(folder, benchmark.split_by)).to_pylist()
        places = ("images", "../images", "images/mscoco/images", "../coco", "../coco/images")
        pictures = first_present(*(root / place / "train2014" for place in places))
    except NotThereError as error:
        return error.missing(benchmark)
    chosen = [row for row in rows if row["split"] == benchmark.split]
    if not chosen:
        known = ", ".join(sorted({row["split"] for row in rows}))
        raise DataError(f"{folder}: no reference of split '{benchmark.split}'; found {known}")
    found = _images(folder, instances, chosen, pictures)
    images = whose_image_is_there(root, benchmark, found, [image.path for image in found])
    check_count(folder, benchmark, sum(len(image.expressions) for image in images), benchmark.pairs, "pairs")
    check_count(folder, benchmark, len(images), benchmark.images, "images")
    check_count(folder, benchmark, len({row["reference"] for row in chosen}), benchmark.references, "references")
    return ReferringSet(images, benchmark.pairs)


def _images(
    folder: Path, instances: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], pictures: Path
) -> list[ReferringImage]:
    """The images that rows of references mean, with all their objects."""
    expressions: dict[int, list[Expression]] = {}
    for row in rows:
        expressions.setdefault(row["image_id"], []).append(Expression(row["sent"], row["ann_id"]))
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
    return images


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

    numbers = [(name, pa.int64()) for name in ("reference", "image_id", "ann_id")]
    return pa.schema([*numbers, *((name, pa.string()) for name in ("split", "sent", "raw"))])


def read_references(path: Path) -> "pa.Table":
    """References of a pickle `refs(<split by>).p` as a table of `schema`.

    The table of a large pickle is kept as `refs(<split by>).parquet`, if the folder can be written, and made anew when
    the pickle changes.

    Raises:
        DataError: It is damaged, or asks for more than plain containers.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = path.read_bytes()
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
            for sentence in reference["sentences"]
        ]
        return pa.Table.from_pylist(rows, schema())
    except Exception as error:  # a damaged pickle raises errors of many kinds
        raise DataError(f"{path}: cannot be read: {error}; download it again") from None
