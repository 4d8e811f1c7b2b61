"""Semantic segmentation sets: images whose every pixel belongs to a named class, or is not scored."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from caft.captions.words import unreadable
from caft.data.sets.files import Missing, NotThereError, entries, first_present, folder_of, present, read_text
from caft.data.sets.findings import Findings, LeftOut
from caft.data.sets.pictures import (
    ENDINGS,
    can_be_scored,
    find_picture,
    note_folders,
    note_others,
    open_annotated,
    stored_size,
)
from caft.errors import DataError
from caft.params.sets import BenchmarkParams

# What is not scored: the value of VOC's borders, and after the shift by one that of ADE20K's other objects.
IGNORED = 255
# VOC's identifiers in its order, the joined ones as words.
VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table", "dog",
    "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv monitor",
)  # fmt: skip
_NO_LABELS = "annotations that cannot be read"


@dataclass(frozen=True)
class LabelledImage:
    """A picture and the PNG of its classes.

    Attributes:
        annotation: Value 0 is no class, 1 the first class, and so on.
        height: Of both in pixels, as `width`.
    """

    path: Path
    annotation: Path
    height: int
    width: int

    @property
    def picture(self) -> Image.Image:
        """The picture as its annotations saw it, RGB, of this height and width.

        Raises:
            DataError: It is of another size, or cannot be decoded.
        """
        return open_annotated(self.path, (self.height, self.width))

    @property
    def labels(self) -> NDArray[np.uint8]:
        """Class of every pixel, from 0, or `IGNORED`, (height, width).

        Raises:
            DataError: The annotation cannot be decoded.
        """
        values = _values(self.annotation)
        return np.where(values == IGNORED, values, values - np.uint8(1))  # 0 becomes 255


@dataclass(frozen=True)
class SegmentationSet:
    """Images with the class of every pixel.

    Attributes:
        labelled: In the order of the publisher's list, or of their names.
        classes: Names, as they go into a prompt.
        prompts: Texts with {name} for a class; empty: those of the score.
        expected: How many images the publisher counts, where that is known.
        left_out: What of it is not here.
    """

    labelled: list[LabelledImage]
    classes: tuple[str, ...]
    prompts: tuple[str, ...] = ()
    expected: int | None = None
    left_out: LeftOut = LeftOut()

    @property
    def images(self) -> list[Path]:
        """The pictures."""
        return [image.path for image in self.labelled]


def load_segmentation(benchmark: BenchmarkParams) -> SegmentationSet | Missing:
    """Reads a segmentation set.

    Raises:
        BadItemsError: Images or annotations cannot be scored, unless the set may be partial; or counts are not the
            expected.
        DataError: The files are not what the layout says, or no pixel is of a class.
    """
    folder = folder_of(benchmark)
    findings = Findings(folder, benchmark)
    try:
        classes, file, pairs = _LAYOUTS[benchmark.layout](folder, benchmark, findings)
    except NotThereError as error:
        return error.missing(benchmark)
    findings.count(len(classes), benchmark.classes, "classes", file)
    found = [_labelled(*pair, len(classes), findings) for pair in pairs]
    labelled = [image for image in found if image is not None]
    findings.count(len(labelled), benchmark.images, "images")
    left_out = findings.settle()
    if labelled and not any(_seen(image.annotation, len(classes)).scored for image in labelled):
        raise DataError(
            f"{labelled[0].annotation.parent}: expected the number of a class, 1 to {len(classes)}, as the value of a pixel; "
            f"all are 0 or {IGNORED}, which are not scored"
        )
    return SegmentationSet(labelled, classes, benchmark.prompts, benchmark.images, left_out)


def _labelled(path: Path, annotation: Path, classes: int, findings: Findings) -> LabelledImage | None:
    """The pair, if both can be read and fit; else it is a bad item."""
    if not can_be_scored(annotation, findings):
        return None
    size = stored_size(annotation)
    problem = _seen(annotation, classes).problem
    if problem:
        findings.bad(_NO_LABELS, annotation.name, problem)
    picture = find_picture(path)
    return LabelledImage(picture, annotation, *size) if can_be_scored(picture, findings, size) and not problem else None


class _Seen(NamedTuple):
    """What is wrong with an annotation, or nothing, and whether a pixel of it is scored."""

    problem: str
    scored: bool


def _seen(annotation: Path, classes: int) -> _Seen:
    status = annotation.stat()
    return _looked_at(annotation, classes, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=100_000)
def _looked_at(annotation: Path, classes: int, length: int, changed: int) -> _Seen:
    """As `_seen`, kept, since a set is read by several steps of a job."""
    try:
        values = _values(annotation)
    except DataError as error:
        return _Seen(str(error).removeprefix(f"{annotation}: "), scored=False)
    named = values[(values != 0) & (values != IGNORED)]
    if (named > classes).any():
        return _Seen(f"holds class {named.max()}; there are {classes}", scored=False)
    return _Seen("", scored=bool(named.size))


def _values(annotation: Path) -> NDArray[np.uint8]:
    """Values of the pixels of a PNG, (height, width); of one with a palette their numbers.

    Raises:
        DataError: It cannot be decoded, or has other than 8 bits a pixel.
    """
    try:
        with Image.open(annotation) as image:
            if image.mode not in ("L", "P"):
                raise DataError(f"{annotation}: pixels are {image.mode}; expected 8 bits, the number of the class")
            return np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{annotation}: cannot be decoded ({error}); take the publisher's file") from None


# ---------------------------------------------------------------------- layouts

_Pairs = list[tuple[Path, Path]]


def _voc(folder: Path, benchmark: BenchmarkParams, findings: Findings) -> tuple[tuple[str, ...], Path, _Pairs]:
    """`ImageSets/Segmentation/<split>.txt`, `JPEGImages/` and `SegmentationClass/`, in `VOCdevkit/VOC2012/` or here."""
    split = Path("ImageSets", "Segmentation", f"{benchmark.split or 'val'}.txt")
    file = first_present(*(folder / place / split for place in ("VOCdevkit/VOC2012", "VOC2012", ".")))
    root = file.parent.parent.parent
    pictures, annotations = present(root / "JPEGImages"), present(root / "SegmentationClass")
    names = list(dict.fromkeys(line.strip() for line in read_text(file).splitlines() if line.strip()))
    return VOC, file, [(pictures / f"{name}.jpg", annotations / f"{name}.png") for name in names]


def _ade20k(folder: Path, benchmark: BenchmarkParams, findings: Findings) -> tuple[tuple[str, ...], Path, _Pairs]:
    """ADE20K's scene parsing: `objectInfo150.txt`, `images/<split>/` and `annotations/<split>/`, here or in its own folder."""
    name, split = "objectInfo150.txt", benchmark.split or "validation"
    file = first_present(folder / "ADEChallengeData2016" / name, folder / name)
    pictures, annotations = present(file.parent / "images" / split), present(file.parent / "annotations" / split)
    note_others(entries(pictures), findings)
    note_folders(entries(pictures), findings)
    of_picture = {path.stem: path for path in entries(pictures) if path.suffix.lower() in ENDINGS}
    of_labels = {path.stem: path for path in entries(annotations) if path.suffix.lower() == ".png"}
    for stem in sorted(of_picture.keys() ^ of_labels.keys()):
        lacks = f"annotations/{split}/{stem}.png" if stem in of_picture else f"images/{split}/{stem}.jpg"
        findings.bad("images or annotations without their partner", stem, f"needs {lacks}")
    stems = sorted(of_picture.keys() & of_labels.keys())
    return _names(file), file, [(of_picture[stem], of_labels[stem]) for stem in stems]


def _names(file: Path) -> tuple[str, ...]:
    """First name of each class of `objectInfo150.txt`, a table with tabs whose last column holds them all.

    Raises:
        DataError: A line has no number of its own in turn, or no name: the others would be of other classes.
    """
    names: list[str] = []
    for number, line in enumerate(read_text(file).splitlines()):
        if number == 0 or not line.strip():  # the header
            continue
        columns = line.split("\t")
        name = columns[-1].split(",")[0].split(";")[0].strip()
        if len(columns) < 2 or columns[0].strip() != str(len(names) + 1) or unreadable(name):
            raise DataError(
                f"{file}:{number + 1}: expected class {len(names) + 1} with its name in the last of several columns with "
                f"tabs between, found {line[:60]!r}; download it again"
            )
        names.append(name)
    return tuple(names)


_Layout = Callable[[Path, BenchmarkParams, Findings], tuple[tuple[str, ...], Path, _Pairs]]
_LAYOUTS: dict[str, _Layout] = {"voc": _voc, "ade20k": _ade20k}
