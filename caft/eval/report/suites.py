"""Tables of the composition suites and of zero-shot semantic segmentation."""

from collections.abc import Iterator, Mapping
from typing import Any

from caft.eval.analysis.curves import Interval
from caft.eval.analysis.intervals import wilson
from caft.eval.report.leaked import nothing_left, without_leaked
from caft.eval.report.left_out import left_out
from caft.eval.report.tables import CHANCE, Folded, Row, fold

_ANSWERED = ("text", "image", "group")
# Categories that have a row each; of more, only the mean is shown, and metrics/retrieval.json has them all.
_MOST_CATEGORIES = 10
_WAYS = {
    "value": "segments as the pooling gives them back",
    "token": "segments' tokens",
    "attention": "attention of the class",
}


def composition(retrieval: Mapping[str, Mapping[str, Any]]) -> list[Folded]:
    """A table for each composition set that was scored: what each score answers, in all and by category."""
    return [_suite(name, entry) for name, entry in retrieval.items() if "accuracy" in entry]


def _suite(name: str, entry: Mapping[str, Any]) -> Folded:
    of = f" of {entry['expected_questions']:,}: partial data" if "expected_questions" in entry else ""
    answered = [key for key in _ANSWERED if key in entry["chance"]]
    rows = list(_answers(entry, answered))
    for title, rest in without_leaked(name, entry, "questions"):
        rows += [Row([title], "head"), *_answers(rest, answered)]
    labels = [_label(score, key) for score in _scores(entry) for key in answered]
    return fold([f"{name}, {entry['questions']:,} questions{of}", *labels], rows)


def _scores(entry: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Accuracies by the name of the score; null ones, of a model without a part level, are left out."""
    return {score: found for score, found in entry["accuracy"].items() if found is not None}


def _label(score: str, key: str) -> str:
    shown = f"CAFT++ {score[6:]}" if score.startswith("blend_") else score
    return shown if key == "text" else f"{shown}, {key}"


def _answers(entry: Mapping[str, Any], answered: list[str]) -> Iterator[Row]:
    scores = _scores(entry)
    cells = [(found, key) for found in scores.values() for key in answered]
    yield Row(["all questions", *(wilson(found[key], entry["questions"]) for found, key in cells)])
    if any("text_macro" in found for found in scores.values()):
        values = [found.get("text_macro") if key == "text" else None for found, key in cells]
        yield Row(["mean over the publisher's categories", *values])
    categories = list(next(iter(scores.values()))["by_category"])
    if len(categories) <= _MOST_CATEGORIES:
        for category in categories:
            shown = category.replace("_", " ")
            yield Row([shown, *(found["by_category"][category][key] for found, key in cells)], "control")
    yield Row(["chance", *(entry["chance"][key] for _, key in cells)], CHANCE)
    if tied := sum(found["tied"] for found in scores.values()):
        yield Row([f"{tied:,} ties over all scores, counted as misses"], "control")
    if same := entry.get("same_captions"):
        yield Row([f"{same:,} questions have captions that the model reads alike"], "control")
    yield from (Row([line], "control") for line in left_out(entry))
    yield from nothing_left(entry)


def segmentation(grounding: Mapping[str, Mapping[str, Any]]) -> Folded:
    """MIoU over the classes of each segmentation set that was scored, by what a pixel is compared with."""
    rows = [row for name, entry in grounding.items() if "segmentation" in entry for row in _classes(name, entry)]
    return fold(["classes of pixels", "mIoU", "the same, one class an image", "pixels right"], rows)


def _classes(name: str, entry: Mapping[str, Any]) -> Iterator[Row]:
    of = f" of {entry['expected_images']:,}: partial data" if "expected_images" in entry else ""
    yield Row([f"{name}, {entry['images']:,} images{of}, {entry['classes']:,} classes"], "head")
    yield from _by_way(entry)
    yield from (Row([line], "control") for line in left_out(entry))
    yield from nothing_left(entry)
    for title, rest in without_leaked(name, entry, "images"):
        yield Row([title], "head")
        yield from _by_way(rest)


def _by_way(entry: Mapping[str, Any]) -> Iterator[Row]:
    for way, found in entry["segmentation"].items():
        miou = Interval(found["miou"], **found["miou_interval"])
        yield Row([_WAYS.get(way, way), miou, found["miou_one_class"], found["pixel_accuracy"]])
