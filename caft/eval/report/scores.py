"""The section with the scores of the metrics files, beside chance and controls."""

from collections.abc import Mapping, Sequence
from typing import Any

from caft.data.sets import REGION_FILES
from caft.eval.report.charts import Series, line_chart
from caft.eval.report.content import Report
from caft.eval.report.page import safe, table, terms

_CONTROLS = {
    "chance": "the score of drawing an answer without looking.",
    "mask of one expression, object of another": "the masks are kept, and each is compared with the other objects of its "
    "image. If attention ignored the words, this would be as high as the score.",
    "all objects of the image": "one perfect mask of everything in the foreground, whatever the words: what a map of "
    "saliency can reach.",
    "whole image": "every pixel is predicted: the least that a mask of anything scores.",
    "the same, ties as hits": "as other scripts count; if it is far higher, equal scores decide.",
    "tied rows": "queries with a wrong candidate that scores exactly as the right one; they count as misses.",
    "plain grid": "squares instead of superpixels.",
}


def results(report: Report) -> str:
    """All tables, and what their controls say."""
    parts = [_retrieval(report), _grounding(report), _regions(report), _superpixels(report)]
    content = "".join(part for part in parts if part)
    if not content:
        return ""
    return f"<h2>Results</h2>\n{content}<h3>What the controls say</h3>\n{terms(_CONTROLS)}"


def _not_run(entries: Mapping[str, Any]) -> str:
    absent = {n: entry["not_run"] for n, entry in entries.items() if isinstance(entry, Mapping) and "not_run" in entry}
    if not absent:
        return ""
    lines = "".join(f'<p class="soft">{safe(name)} was not run: {safe(why)}</p>\n' for name, why in absent.items())
    told = f"{len(absent)} sets were not run" if len(absent) > 1 else "One set was not run"
    return f"<details><summary>{told}</summary>\n{lines}</details>\n"


def _retrieval(report: Report) -> str:
    entries = report.metrics.get("retrieval", {})
    if not entries:
        return ""
    ks = (1, 5, 10)
    keys = [f"{direction}_r{k}" for direction in ("i2t", "t2i") for k in ks]
    rows: list[list[object]] = []
    kinds: list[str] = []
    for name, entry in entries.items():
        if "whole" not in entry:
            continue
        note = f": {report.notes[name]}" if name in report.notes else ""
        pairs, images = entry["pairs"], entry.get("images", entry["pairs"])
        of = f" of {entry['expected_pairs']:,}: partial data" if "expected_pairs" in entry else ""
        rows.append([f"{name}, {pairs:,} pairs{of}{note}", *[""] * 6])
        kinds.append("head")
        blends = sorted(key for key in entry if key.startswith("blend_"))
        approximate = sorted(key for key in entry if key.startswith("approximate_"))
        for mode in ("whole", "part", *blends, *approximate):
            if entry[mode] is None:  # the model has no part level, or the set was scored approximately
                continue
            label = f"CAFT++, part weight {mode[6:]}" if mode in blends else f"{mode.replace('_', ' ')} score"
            rows.append([label, *(entry[mode][key] for key in keys)])
            kinds.append("")
        rows.append(["chance", *(min(100.0, 100 * k / images) for _ in range(2) for k in ks)])
        kinds.append("control")
        if "tokens_seen" in entry:
            read = f"{entry['tokens_seen']:.1f} % of the captions' tokens were read, {entry['chunks_cut']:.1f} % of the"
            rows.append([f"{read} chunks cut", *[""] * 6])
            kinds.append("control")
        if entry["tied_rows"]:
            rows.append([f"{entry['tied_rows']} tied rows, counted as misses", *[""] * 6])
            kinds.append("control")
    header = ["score", *(f"{direction} R@{k}" for direction in ("I2T", "T2I") for k in ks)]
    charts = "".join(_blend_chart(name, report.blend) for name, entry in entries.items() if "whole" in entry)
    return (
        "<h3>Long-text retrieval</h3>\n<p>I2T: an image looks for its text; T2I: a text looks for its image. R@k: the right "
        "one is among the first k. CAFT++ mixes the whole score and the mean of the parts.</p>\n"
        + (table(header, rows, kinds) if rows else "")
        + _zero_shot(entries)
        + _not_run(entries)
        + (f'<div class="charts">{charts}</div>\n' if charts else "")
    )


def _zero_shot(entries: Mapping[str, Any]) -> str:
    rows = [
        [f"{name}, {entry['images']:,} images of {entry['classes']:,} classes", entry["top1"], entry["top5"]]
        for name, entry in entries.items()
        if "top1" in entry
    ]
    return table(["zero-shot classes", "top-1", "top-5"], rows) if rows else ""


def _blend_chart(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for colour, key in enumerate(("i2t_r1", "t2i_r1")):
        for space in ("logit", "cosine"):
            points = [(row["weight"], row[key]) for row in rows if row["set"] == name and row["space"] == space]
            direction = key[:3].upper()
            lines.append(Series(f"{direction}, {space}s mixed", points, colour, dashed=space == "cosine"))
    return line_chart(f"R@1 by part weight, {name}", lines, "weight of the part score", "percent", from_zero=True)


def _grounding(report: Report) -> str:
    entries = report.metrics.get("grounding", {})
    rows: list[list[object]] = []
    kinds: list[str] = []
    for name, entry in entries.items():
        if "not_run" in entry:
            continue
        rows += [
            [f"{name}, {entry['expressions']:,} expressions", entry["miou"], entry["overall_iou"], entry["pointing"]],
            ["mask of one expression, object of another", entry["miou_wrong_expression"], "", ""],
            ["all objects of the image", entry["miou_all_foreground"], "", ""],
            ["whole image", entry["miou_whole_image"], "", ""],
        ]
        kinds += ["head", "control", "control", "control"]
    if not entries:
        return ""
    return (
        "<h3>Referring segmentation, no mask ever trained on</h3>\n<p>The attention of the expression is split at Otsu's "
        "threshold and compared with the object's mask. Pointing: the map's maximum lies in the object.</p>\n"
        + (table(["set", "mIoU", "overall IoU", "pointing"], rows, kinds) if rows else "")
        + _not_run(entries)
    )


def _regions(report: Report) -> str:
    scores = report.metrics.get("regions", {})
    # The first set of the settings is flat in the file, others are there by name.
    of_set = {"": scores, **{name: entry for name, entry in scores.items() if isinstance(entry, Mapping)}}
    tables = "".join(_boxes(name, entry) for name, entry in of_set.items())
    if not tables:
        return ""
    return (
        "<h3>Which description fits the box?</h3>\n<p>Wrong descriptions differ in one attribute (hard), two, three "
        "(easy), or altogether (trivial). On hard, a model that knows the colour alone is <em>below</em> chance, since "
        f"most wrong descriptions have the right colour.</p>\n{tables}"
    )


def _boxes(name: str, scores: Mapping[str, Any]) -> str:
    if "not_run" in scores:
        return f'<p class="soft">{safe(name or "The first set")} was not run: {safe(scores["not_run"])}</p>\n'
    if "rows" not in scores:
        return ""
    rows: list[list[object]] = [
        ["right description above all wrong ones", *(scores[level] for level in REGION_FILES)],
        ["the same, ties as hits", *(scores[f"{level}_optimistic"] for level in REGION_FILES)],
        ["chance", *(scores[f"{level}_chance"] for level in REGION_FILES)],
    ]
    others = {mode: found for mode, found in scores.get("by_box_mode", {}).items() if mode != scores["box_mode"]}
    for mode, found in others.items():
        rows.append([f"box read by {mode}", *(found[level] for level in REGION_FILES)])
    header = f"{name + ', ' if name else ''}{scores['rows']:,} boxes"
    return table([header, *REGION_FILES], rows, ["", "control", "control", *[""] * len(others)])


def _superpixels(report: Report) -> str:
    scores = report.metrics.get("superpixels", {})
    if scores.get("oracle_miou") is None:
        return ""
    rows: list[list[object]] = [
        ["learnt without labels", scores["oracle_miou"], scores["boundary_recall"], scores["live"]],
        ["plain grid", scores["grid_oracle_miou"], "", ""],
    ]
    return (
        "<h3>Superpixels</h3>\n<p>The best mask that a choice of superpixels can make of an object bounds what attention "
        "over them can reach.</p>\n"
        + table(["superpixels", "oracle mIoU", "boundary recall", "not empty, per image"], rows, ["", "control"])
    )
