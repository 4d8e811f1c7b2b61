"""Values of the section with the scores of the metrics files, with their intervals and controls."""

from collections.abc import Iterator, Mapping
from typing import Any

from caft.data.sets import REGION_FILES
from caft.eval.analysis.curves import Interval
from caft.eval.analysis.intervals import wilson
from caft.eval.report.absent import absent_sets
from caft.eval.report.charts import Chart, Series, line_chart
from caft.eval.report.content import Report
from caft.eval.report.kinds import look_alikes
from caft.eval.report.leaked import leaked_words, nothing_left, without_leaked
from caft.eval.report.left_out import left_out
from caft.eval.report.suites import composition, segmentation
from caft.eval.report.summary import short_referring, short_retrieval
from caft.eval.report.tables import CHANCE, Folded, Row, fold
from caft.eval.report.tiles import region_sets
from caft.eval.scores.superpixels import SCORES as SUPERPIXELS

RECALLS = ("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10")
_HEADER = ["score", *(f"{key[:3].upper()} R@{key[5:]}" for key in RECALLS)]
_CONTROLS = {
    "mask of one expression, object of another": "miou_wrong_expression",
    "all objects of the image": "miou_all_foreground",
    "whole image": "miou_whole_image",
}


def results(report: Report) -> dict[str, Any]:
    """Values of results.html."""
    retrieval, grounding = (report.metrics.get(name, {}) for name in ("retrieval", "grounding"))
    retrieved = {name: entry for name, entry in retrieval.items() if "whole" in entry}
    return {
        "metrics": report.metrics,
        "retrieved": fold(
            _HEADER, [row for name, entry in retrieved.items() for row in _retrieval(report, name, entry)]
        ),
        "look_alikes": [table for name, entry in retrieved.items() if (table := look_alikes(name, entry)).rows],
        "leaked": leaked_words(report),
        "several_captions": any("images" in entry for entry in retrieved.values()),
        "recalls": short_retrieval(retrieved),
        "masks": short_referring(report),
        "classified": fold(["zero-shot classes", "top-1", "top-5"], list(_classes(retrieval))),
        "compositions": composition(retrieval),
        "segmentations": segmentation(grounding),
        "referring": fold(["set", "mIoU", "overall IoU", "pointing"], list(_referring(report))),
        "matches": _matches(grounding),
        "regions": [_region(report, name, entry) for name, entry in region_sets(report).items()],
        "absent": absent_sets(report),
        "superpixels": _superpixels(report.metrics.get("superpixels", {})),
        "blends": [chart for name in retrieved if (chart := _blend_chart(report, name))],
    }


def _retrieval(report: Report, name: str, entry: Mapping[str, Any]) -> Iterator[Row]:
    """Recalls of a set by each score, with what no skill is needed for, and what was left out of it."""
    of = f" of {entry['expected_pairs']:,}: partial data" if "expected_pairs" in entry else ""
    images = f", {entry['images']:,} images" if "images" in entry else ""
    note = f": {report.notes[name]}" if name in report.notes else ""
    yield Row([f"{name}, {entry['pairs']:,} pairs{of}{images}{note}"], "head")
    yield from _recalls(entry)
    if "tokens_seen" in entry:
        seen, cut = entry["tokens_seen"], entry["chunks_cut"]
        yield Row([f"{seen:.1f} % of the captions' tokens were read, {cut:.1f} % of the chunks cut"], "control")
    if entry["tied_rows"]:
        yield Row([f"{entry['tied_rows']:,} tied rows, counted as misses"], "control")
    yield from _left_out(entry)
    for title, rest in without_leaked(name, entry, "pairs"):
        yield Row([title], "head")
        yield from _recalls(rest)


def _recalls(entry: Mapping[str, Any]) -> Iterator[Row]:
    """Recalls by each score, and by chance."""
    for label, recall in _modes(entry).items():
        yield Row([label, *(wilson(recall[key], _queries(entry, key)) for key in RECALLS)])
    yield Row(["chance", *(min(100.0, 100 * int(key[5:]) / _images(entry)) for key in RECALLS)], CHANCE)


def _left_out(entry: Mapping[str, Any]) -> Iterator[Row]:
    yield from (Row([line], "control") for line in left_out(entry))
    yield from nothing_left(entry)


def _queries(entry: Mapping[str, Any], key: str) -> int:
    """How many queries a recall is the share of: images, or texts."""
    return _images(entry) if key.startswith("i2t") else int(entry["pairs"])


def _images(entry: Mapping[str, Any]) -> int:
    return int(entry.get("images", entry["pairs"]))


def _modes(entry: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """Recalls by the name of the score; null ones (no part level, or only approximate blends) are left out."""
    blends = sorted(key for key in entry if key.startswith("blend_"))
    approximate = sorted(key for key in entry if key.startswith("approximate_"))
    labels = {mode: f"{mode.replace('_', ' ')} score" for mode in ("whole", "part", *blends, *approximate)}
    labels |= {blend: f"CAFT++, part weight {blend[6:]}" for blend in blends}
    return {label: entry[mode] for mode, label in labels.items() if entry[mode] is not None}


def _classes(retrieval: Mapping[str, Any]) -> Iterator[Row]:
    for name, entry in retrieval.items():
        if "top1" in entry:
            title = f"{name}, {entry['images']:,} images of {entry['classes']:,} classes"
            yield Row([title, *(wilson(entry[key], entry["images"]) for key in ("top1", "top5"))])
            yield from _left_out(entry)
            for line, rest in without_leaked(name, entry, "images"):
                yield Row([line, *(wilson(rest[key], rest["images"]) for key in ("top1", "top5"))])


def _referring(report: Report) -> Iterator[Row]:
    """Masks of each referring set with their controls."""
    for name, entry in report.metrics.get("grounding", {}).items():
        if "miou" not in entry:
            continue
        known = report.intervals.get(name, {})
        shown = ("miou", "miou_wrong_expression", "overall_iou", "pointing")
        score = {key: known.get(key, entry[key]) for key in shown}
        of = f" of {entry['expected_expressions']:,}: partial data" if "expected_expressions" in entry else ""
        title = f"{name}, {entry['expressions']:,} expressions{of}"
        yield Row([title, score["miou"], score["overall_iou"], score["pointing"]], "head")
        for label, key in _CONTROLS.items():
            yield Row([label, score.get(key, entry[key]), "", ""], "control")
        yield from _left_out(entry)
        for line, rest in without_leaked(name, entry, "expressions"):
            yield Row([line, rest["miou"], rest["overall_iou"], rest["pointing"]], "head")
            for label, key in _CONTROLS.items():
                yield Row([label, rest[key], "", ""], "control")


_MATCHES = {"auroc": "AUROC of the probability", "auroc_percentile": "AUROC of the percentile", "greyed": "mask grey"}


def _matches(grounding: Mapping[str, Any]) -> Folded:
    """How well the match score tells true from false sentences of each referring set, by what is false."""
    found = {name: entry["match"] for name, entry in grounding.items() if entry.get("match")}
    kinds = list(dict.fromkeys(kind for match in found.values() for kind in match["sentences"]))
    rows: list[Row] = []
    for name, match in found.items():
        rows.append(Row([name], "head"))
        rows += [Row([label, *(match[key].get(kind) for kind in kinds)]) for key, label in _MATCHES.items()]
        rows.append(Row(["sentences", *(match["sentences"].get(kind) for kind in kinds)], "control"))
    return fold(["changed", *(kind.replace("_", " ") for kind in kinds)], rows)


def _region(report: Report, name: str, entry: Mapping[str, Any]) -> Folded:
    title = f"{name + ', ' if name else ''}{entry['rows']:,} boxes"
    return fold([title, *REGION_FILES], list(_boxes(entry, report.boxes.get(name, {}))))


def _boxes(entry: Mapping[str, Any], boxes: Mapping[str, int]) -> Iterator[Row]:
    """Accuracies by level; with an interval where it is known how many boxes a level has."""

    def row(label: str, scores: Mapping[str, Any], ending: str = "", kind: str = "") -> Row:
        found = [(scores.get(level + ending), boxes.get(level)) for level in REGION_FILES]
        has_interval = kind != CHANCE
        return Row([label, *(wilson(v, n) if has_interval and v is not None and n else v for v, n in found)], kind)

    yield row("right description above all wrong ones", entry)
    yield row("the same, ties as hits", entry, "_optimistic", "control")
    yield row("chance", entry, "_chance", CHANCE)
    for mode, found in entry.get("by_box_mode", {}).items():
        if mode != entry["box_mode"]:
            yield row(f"box read by {mode}", found)
    if boxes:
        yield Row(["boxes", *(boxes.get(level) for level in REGION_FILES)], "control")
    yield from _left_out(entry)
    for title, rest in without_leaked("the same", entry, "rows"):
        yield Row([title], "head")
        yield Row(["right description above all wrong ones", *(rest.get(level) for level in REGION_FILES)])
        yield Row(["chance", *(rest.get(f"{level}_chance") for level in REGION_FILES)], CHANCE)


def _superpixels(metrics: Mapping[str, Any]) -> Folded:
    """How well superpixels follow objects, beside a plain grid; no rows where no set was there."""
    if metrics.get("oracle_miou") is None:
        return fold([], [])
    ends = metrics.get("intervals", {})
    found = {key: Interval(metrics[key], **ends[key]) if key in ends else metrics[key] for key in SUPERPIXELS}
    learnt = ("oracle_miou", "boundary_recall", "live")
    rows = [
        Row(["learnt without labels", *(found[key] for key in learnt)]),
        Row(["plain grid", found["grid_oracle_miou"], "", ""], "control"),
    ]
    return fold(["superpixels", "oracle mIoU", "boundary recall", "not empty, per image"], rows)


def _blend_chart(report: Report, name: str) -> Chart | None:
    lines = []
    for colour, key in enumerate(("i2t_r1", "t2i_r1")):
        for space in ("logit", "cosine"):
            chosen = [row for row in report.blend if row["set"] == name and row["space"] == space]
            points = [(row["weight"], row[key]) for row in chosen]
            lines.append(Series(f"{key[:3].upper()}, {space}s mixed", points, colour, dashed=space == "cosine"))
    return line_chart(f"R@1 by part weight, {name}", lines, "weight of the part score", "R@1, percent", span="close")
