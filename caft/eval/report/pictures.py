"""Values of the sections of pictures: retrieval, attention, masks, queries of several lengths, segments, superpixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from caft.data.sets import RetrievalSet
from caft.eval.analysis.examples import KINDS, Answers, Retrieved
from caft.eval.report.content import SIDE, Report
from caft.eval.report.tables import Row, fold
from caft.eval.scores.referring import iou
from caft.model.drawing.figures import PREDICTION, TRUTH, borders, fit, outline, overlay, segmentations
from caft.transforms import open_image

_SMALL = 120  # pixels, where many pictures stand in a row
_METHODS = ["method", "boundary recall", "ASA", "oracle mIoU", "thin parts", "per image", "one image, one thread"]
_TEXTS = 3  # answers shown of an image that looks for its text

Pictures = list[tuple[Image.Image, str]]  # each with its caption
Case = TypeVar("Case")


def attention(report: Report) -> dict[str, Any]:
    """Where each sentence of long captions looks."""
    cases: list[Pictures] = []
    for look in report.looks:
        shown = fit(look.image, SIDE)
        maps = [(overlay(shown, values), text) for text, values in zip(look.texts, look.maps, strict=True)]
        cases.append([(shown, "the image"), *maps])
    return {"cases": cases}


def referring(report: Report) -> dict[str, Any]:
    """Masks of referring expressions: best, median, worst."""
    kinds: dict[str, list[Pictures]] = {}
    for kind in KINDS:
        for case in (case for case in report.segmented if case.kind == kind):
            shown = fit(case.image, SIDE)
            mask = outline(overlay(shown, case.values), case.mask, PREDICTION)
            pair = [(outline(shown, case.truth, TRUTH), case.text), (mask, f"IoU {100 * case.iou:.0f}")]
            kinds.setdefault(kind, []).append(pair)
    return {"cases": kinds, "more": sum(len(pairs) - 1 for pairs in kinds.values())}


def granularity(report: Report) -> dict[str, Any]:
    """One object asked for by queries from long to short."""
    cases: list[tuple[str, Pictures]] = []
    for case in report.asked:
        shown = fit(case.image, SIDE)
        pictures = [(shown, "the image")]
        for text, values, mask, truth in zip(case.texts, case.maps, case.masks, case.truths, strict=True):
            drawn = outline(outline(overlay(shown, values), truth, TRUTH), mask, PREDICTION)
            pictures.append((drawn, f"{text} (IoU {100 * iou(mask, truth):.0f})"))
        cases.append((case.kind, pictures))
    typical, others = _typical(cases, [kind for kind, _ in cases])
    return {"typical": typical, "others": others}


def segments(report: Report) -> dict[str, Any]:
    """Superpixels and the nested groupings."""
    cases: list[Pictures] = []
    for case in report.nested:
        shown, (superpixels, *groups) = fit(case.image, SIDE), case.levels
        counts = [len(set(labels.flat)) for labels in case.levels]
        drawn = zip(segmentations(shown, groups), counts[1:], strict=True)
        first = [(shown, "the image"), (borders(shown, superpixels), f"{counts[0]} superpixels")]
        cases.append(first + [(picture, f"{count} segments") for picture, count in drawn])
    return {"cases": cases}


def superpixels(report: Report) -> dict[str, Any]:
    """Superpixel methods side by side."""
    cases: list[Pictures] = []
    for case in report.method_cases:
        shown = case.image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        cases.append([(shown, "the image"), *((borders(shown, labels), name) for name, labels in case.labels.items())])
    keys = ("boundary_recall", "achievable_accuracy", "oracle_miou", "thin_recall", "count")
    rows = [
        Row(
            [one.name, *(one.intervals[key] for key in keys), f"{one.milliseconds:.1f} ms"], "control" if number else ""
        )
        for number, one in enumerate(report.methods)
    ]
    return {"cases": cases, "methods": fold(_METHODS, rows)}


def retrieval(report: Report) -> dict[str, Any]:
    """Queries with their best answers by CAFT++ and by the whole score alone."""
    cases: list[dict[str, Any]] = []
    for shown in report.retrieval:
        pairs = shown.benchmark
        of_texts = [
            {"kind": case.kind, "text": pairs.captions[case.query], "answers": _answers(case, _images, pairs)}
            for case in shown.of_texts
        ]
        of_images = [
            {"kind": case.kind, "image": _thumbnail(pairs.images[case.query]), "answers": _answers(case, _texts, pairs)}
            for case in shown.of_images
        ]
        if not cases:  # of the first set, a text is in view
            texts, of_texts = _typical(of_texts, [case.kind for case in shown.of_texts])
            cases.append({"name": shown.name, "of_texts": texts, "of_images": []})
        cases.append({"name": shown.name, "of_texts": of_texts, "of_images": of_images})
    return {"typical": cases[:1], "others": cases[1:]}


def _typical(cases: list[Case], kinds: Sequence[str]) -> tuple[list[Case], list[Case]]:
    """The first case of the middle kind, or the first of all, and the others."""
    place = kinds.index(KINDS[1]) if KINDS[1] in kinds else 0
    return cases[place : place + 1], cases[:place] + cases[place + 1 :]


def _answers(case: Retrieved, draw: Any, pairs: RetrievalSet) -> dict[str, dict[str, Any]]:
    scores = {"CAFT++": case.blended, "Whole score alone": case.whole}
    return {name: {"rank": found.rank, "shown": draw(found, case.query, pairs)} for name, found in scores.items()}


def _images(answers: Answers, query: int, pairs: RetrievalSet) -> list[tuple[Image.Image, str, str]]:
    return [
        (_thumbnail(pairs.images[index], _SMALL), str(place), "truth" if index == query else "")
        for place, index in _places(answers.best, answers.rank, query)
    ]


def _texts(answers: Answers, query: int, pairs: RetrievalSet) -> list[tuple[int, str, bool]]:
    places = _places(answers.best[:_TEXTS], answers.rank, query)
    return [(place, pairs.captions[index], index == query) for place, index in places]


def _places(best: Sequence[int], rank: int, query: int) -> list[tuple[int, int]]:
    """Place and index of the best candidates; the right one takes the last one's room if it is not among them."""
    places = list(enumerate(best, start=1))
    return places if query in best else [*places[:-1], (rank, query)]


def _thumbnail(path: Path, side: int = SIDE) -> Image.Image:
    return fit(open_image(path), side)
