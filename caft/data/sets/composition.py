"""Composition sets: pictures, each with its true caption, among false ones that say the same words of other things."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from caft.captions.words import unreadable
from caft.data.sets.aro import SYMMETRIC
from caft.data.sets.files import (
    ROWS,
    Missing,
    NotThereError,
    OddRowError,
    field,
    first_present,
    folder_of,
    present,
    read_json,
    read_lines,
)
from caft.data.sets.findings import Findings, LeftOut
from caft.data.sets.pictures import can_be_scored, find_picture, stored_size
from caft.errors import DataError
from caft.params.sets import BenchmarkParams
from caft.transforms import open_image

# SugarCrepe's files, in the order of its script: what was changed in the false caption.
SUGAR_CREPE = ("add_obj", "add_att", "replace_obj", "replace_att", "replace_rel", "swap_obj", "swap_att")
# Questions that a pair of attributes of VG-Attribution must have to count in the mean over these [ARO's code].
_FEWEST = 25
# Widths or heights of a picture that a box may reach to: what is cut out must fit the memory.
_FARTHEST = 4


class View(NamedTuple):
    """A picture, or what a box cuts out of its stored pixels: left, top, right and bottom, as Pillow's `crop` has them."""

    path: Path
    box: tuple[float, float, float, float] | None = None

    @property
    def picture(self) -> Path | Image.Image:
        """What the model is shown: the file, which is then upright, or an RGB picture of what is in the box.

        Raises:
            DataError: It cannot be decoded.
        """
        return self.path if self.box is None else open_image(self.path, upright=False).crop(self.box)


class Question(NamedTuple):
    """Views and captions of one item: of as many captions as there are views the first is true of the first, and so on."""

    views: tuple[View, ...]
    captions: tuple[str, ...]  # those beyond the views are true of none
    category: str


@dataclass(frozen=True)
class CompositionSet:
    """Questions, all with as many views and captions.

    Attributes:
        macro: The categories over which the publisher takes the mean of the accuracies; empty: it takes none.
        expected: How many questions the publisher counts, where that is known.
        left_out: What of it is not here.
    """

    questions: list[Question]
    macro: tuple[str, ...] = ()
    expected: int | None = None
    left_out: LeftOut = LeftOut()

    @property
    def images(self) -> list[Path]:
        """The pictures, each once."""
        return list(dict.fromkeys(view.path for question in self.questions for view in question.views))


_Found = tuple[str, Question]
_Reader = Callable[[Path, BenchmarkParams, Findings], Iterator[_Found]]


def load_composition(benchmark: BenchmarkParams) -> CompositionSet | Missing:
    """Reads a composition set.

    Captions that are alike to a model, which lets no answer be right, are no bad items: the publishers count them.

    Raises:
        BadItemsError: Captions or images cannot be scored, unless the set may be partial; or counts are not the expected.
        DataError: The files are not what the layout says.
    """
    folder = folder_of(benchmark)
    findings = Findings(folder, benchmark)
    try:
        read = list(_LAYOUTS[benchmark.layout](folder, benchmark, findings))
    except NotThereError as error:
        return error.missing(benchmark)
    questions = [question for where, question in read if _can_be_asked(where, question, findings)]
    counts = Counter(question.category for question in questions)
    for category, expected in benchmark.questions.items():
        findings.count(counts[category], expected, f"questions.{category}")
    findings.count(len(questions), benchmark.pairs, "pairs")
    return CompositionSet(questions, _macro(benchmark, counts), benchmark.pairs, findings.settle())


def _macro(benchmark: BenchmarkParams, counts: Mapping[str, int]) -> tuple[str, ...]:
    """Categories whose accuracies the publisher averages."""
    if benchmark.layout == "winoground":
        return ()
    if benchmark.layout == "sugar_crepe":
        return tuple(category for category in SUGAR_CREPE if counts[category])
    fewest = _FEWEST if benchmark.name == "visual_genome_attribution" else 1
    return tuple(sorted(name for name, count in counts.items() if count >= fewest and name not in SYMMETRIC))


def _can_be_asked(where: str, question: Question, findings: Findings) -> bool:
    """Whether all captions and pictures can be read and all boxes cut out; else they are bad items."""
    silent = [why for caption in question.captions if (why := unreadable(caption))]
    for why in silent:
        findings.bad("captions without words", where, why)
    if not all([can_be_scored(view.path, findings) for view in question.views]):
        return False
    outside = [why for view in question.views if (why := _outside(view))]
    for why in outside:
        findings.bad("boxes that cannot be cut out", where, why)
    return not silent and not outside


def _outside(view: View) -> str:
    """What is wrong with a box; it may leave its picture a little, which Pillow fills with black, as for ARO's code."""
    if view.box is None:
        return ""
    height, width = stored_size(view.path)
    left, top, right, bottom = map(round, view.box)
    shown = f"box {left}, {top}, {right}, {bottom} (left, top, right, bottom)"
    if right <= left or bottom <= top:
        return f"{shown} has no pixel"
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        return f"{shown} lies outside the picture of {width} x {height} pixels"
    if max(-left, right) > _FARTHEST * width or max(-top, bottom) > _FARTHEST * height:
        return f"{shown} is far larger than the picture of {width} x {height} pixels"
    return ""


# ---------------------------------------------------------------------- layouts


def _sugar_crepe(folder: Path, benchmark: BenchmarkParams, findings: Findings) -> Iterator[_Found]:
    """`<category>.json`, here or in `data/`: an object of records by number; numbers may be missing (swap_obj has no 108)."""
    names = list(benchmark.questions or SUGAR_CREPE)
    if unknown := [name for name in names if name not in SUGAR_CREPE]:
        raise DataError(
            f"{folder}: no file for '{unknown[0]}' of the benchmark's key questions; known are {SUGAR_CREPE}"
        )
    files = [first_present(folder / f"{name}.json", folder / "data" / f"{name}.json") for name in names]
    coco = ("coco", "coco/images")
    pictures = first_present(folder / "val2017", *(folder.parent / place / "val2017" for place in coco))

    for category, file in zip(names, files, strict=True):
        records = read_json(file)
        if not isinstance(records, dict) or not records:
            raise DataError(f"{file}: expected a JSON object of records by number, found {str(records)[:60]}")

        def question(record: Any, category: str = category) -> Question:
            view = View(find_picture(pictures / field(record, "filename", str)))
            captions = (field(record, "caption", str), field(record, "negative_caption", str))
            return Question((view,), captions, category)

        yield from _asked(
            ((f"{file.name}: {number}", record) for number, record in records.items()), question, findings
        )


def _winoground(folder: Path, benchmark: BenchmarkParams, findings: Findings) -> Iterator[_Found]:
    """`examples.jsonl` and `images/<name>.png`, here or in `data/`; a caption is true of the image of its number."""
    file = first_present(folder / "examples.jsonl", folder / "data" / "examples.jsonl")
    pictures = first_present(folder / "images", folder / "data" / "images")

    def question(record: Any) -> Question:
        names = [field(record, f"image_{place}", str) for place in (0, 1)]
        views = [View(find_picture(pictures / f"{name}.png", pictures / name)) for name in names]
        captions = tuple(field(record, f"caption_{place}", str) for place in (0, 1))
        return Question(tuple(views), captions, field(record, "collapsed_tag", str))

    yield from _asked(read_lines(file, findings), question, findings)


def _aro(folder: Path, benchmark: BenchmarkParams, findings: Findings) -> Iterator[_Found]:
    """`<name>.json` and `images/`: VG-Relation or VG-Attribution; shown is what the box cuts out, as in ARO's code."""
    file, pictures = present(folder / f"{benchmark.name}.json"), present(folder / "images")
    records = read_json(file)
    if not isinstance(records, list):
        raise DataError(f"{file}: expected a JSON list of records, found {str(records)[:60]}")

    def question(record: Any) -> Question:
        left, top, width, height = (_number(record, f"bbox_{key}") for key in "xywh")
        box = (left, top, left + width, top + height)
        view = View(find_picture(pictures / field(record, "image_path", str)), box)
        captions = (field(record, "true_caption", str), field(record, "false_caption", str))
        return Question((view,), captions, _category(record))

    yield from _asked(((f"{file.name}: record {n}", record) for n, record in enumerate(records)), question, findings)


def _number(record: Any, key: str) -> float:
    value = record.get(key) if isinstance(record, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise OddRowError(f"expected a JSON object with a number as '{key}', found {str(record)[:60]}")
    return value


def _category(record: Any) -> str:
    """The relation of a record of VG-Relation, or the pair of attributes of one of VG-Attribution."""
    if "attributes" not in record:
        return field(record, "relation_name", str)
    attributes = field(record, "attributes", list)
    if len(attributes) != 2 or not all(isinstance(attribute, str) for attribute in attributes):
        raise OddRowError(f"expected two texts as 'attributes', found {str(attributes)[:60]}")
    return "_".join(attributes)


def _asked(
    rows: Iterable[tuple[str, Any]], question: Callable[[Any], Question], findings: Findings
) -> Iterator[_Found]:
    """What a reader makes of the rows, each with its place; one of another form is a bad item."""
    for where, row in rows:
        try:
            yield where, question(row)
        except OddRowError as error:
            findings.bad(ROWS, where, str(error))


_LAYOUTS: dict[str, _Reader] = {"sugar_crepe": _sugar_crepe, "winoground": _winoground, "aro": _aro}
