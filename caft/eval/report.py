"""The report of a run: what was trained on what, how it scores beside chance and controls, and what it sees."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from caft.data.benchmarks import REGION_FILES, RetrievalSet
from caft.data.transforms import open_image
from caft.eval.charts import Series, line_chart
from caft.eval.examples import Look, Nested, Retrieved, Segmented
from caft.eval.figures import PREDICTION, TRUTH, fit, outline, overlay, segmentation
from caft.eval.page import captioned, page, safe, table

_SIDE = 192  # pixels of a picture's longer side in the file; shown at 150, so still sharp on a fine screen
# Title, unit, whether the axis begins at zero, and the lines with their columns of plots/train.csv.
_CURVES: list[tuple[str, str, bool, list[tuple[str, str]]]] = [
    ("Losses", "", True, [("part", "part_loss"), ("whole", "whole_loss"), ("part, class token", "part_cls_loss")]),
    (
        "R@1 on held-out training images",
        "percent",
        True,
        [
            ("I2T, whole", "validation_i2t_r1"),
            ("T2I, whole", "validation_t2i_r1"),
            ("T2I, part", "validation_part_t2i_r1"),
        ],
    ),
    ("Temperatures", "factor of the cosines", True, [("part scale", "part_scale"), ("whole scale", "whole_scale")]),
    ("Biases", "", False, [("part bias", "part_bias"), ("whole bias", "whole_bias")]),
    ("Gradient norm", "before clipping", True, [("gradient norm", "grad_norm")]),
    ("Speed", "images a second, all ranks together", True, [("images a second", "images_per_s")]),
]


@dataclass(frozen=True)
class Report:
    """What the report shows; an empty part is left out.

    Attributes:
        card: Of the model.
        metrics: Content of metrics/<name>.json by name.
        curves: Rows of plots/train.csv, numbers; absent values left out.
        blend: Rows of plots/blend.csv.
        notes: What to know about a benchmark, by its name.
        retrieval: The set of the retrieval examples, with them.
        looks: Where sentences look.
        segmented: Referring expressions with masks.
        nested: Superpixels and groupings.
    """

    card: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    curves: Sequence[Mapping[str, float]]
    blend: Sequence[Mapping[str, Any]]
    notes: Mapping[str, str]
    retrieval: tuple[str, RetrievalSet, list[Retrieved], list[Retrieved]] | None = None
    looks: Sequence[Look] = field(default_factory=list)
    segmented: Sequence[Segmented] = field(default_factory=list)
    nested: Sequence[Nested] = field(default_factory=list)


def render(report: Report) -> str:
    """Returns the report as one HTML document without external requests."""
    sections = [
        ("Data", _data(report)),
        ("Results", _results(report)),
        ("Training", _training(report)),
        ("Retrieval", _retrieval(report)),
        ("Attention", _attention(report)),
        ("Referring", _referring(report)),
        ("Segments", _segments(report)),
        ("Settings", _settings(report)),
    ]
    shown = [(name, content) for name, content in sections if content]
    links = "".join(f'<a href="#{name.lower()}">{name}</a>' for name, _ in shown)
    body = _opening(report) + f"<nav>{links}</nav>\n" + _tiles(report)
    for name, content in shown:
        body += f'<section id="{name.lower()}">\n{content}</section>\n'
    return page("CAFT: report of a run", body)


def _opening(report: Report) -> str:
    corpora = ", ".join(report.metrics.get("data", {})) or "given weights"
    train = report.metrics.get("train", {})
    trained = f", {train['steps']:,} steps, {train['samples']:,} samples" if "steps" in train else ""
    return (
        "<h1>CAFT: forest and trees, aligned</h1>\n"
        f'<p class="soft">Run {safe(str(report.card.get("fingerprint", "")))} on {safe(corpora)}{trained}. '
        "All scores are in percent. Grey rows are levels that need no skill: chance, or a control that ignores the "
        "words.</p>\n"
    )


def _tiles(report: Report) -> str:
    """The few numbers to remember, each with what it has to beat."""
    tiles = []
    for name, entry in report.metrics.get("retrieval", {}).items():
        if "whole" in entry:
            blends = {key: entry[key]["t2i_r1"] for key in entry if key.startswith("blend_")}
            best = max(blends, key=lambda key: blends[key])
            tiles.append(
                (entry["whole"]["t2i_r1"], f"T2I R@1, whole score, {name}", f"chance {100 / entry['pairs']:.1f}")
            )
            tiles.append((blends[best], f"T2I R@1, CAFT++ {best[6:]}, {name}", f"chance {100 / entry['pairs']:.1f}"))
            break
    for name, entry in report.metrics.get("grounding", {}).items():
        if "miou" in entry:
            level = entry["miou_all_foreground"]
            tiles.append((entry["miou"], f"referring mIoU, {name}", f"all objects, words ignored: {level:.1f}"))
            break
    regions = report.metrics.get("regions", {})
    if "easy" in regions:
        tiles.append((regions["easy"], "region accuracy, easy", f"chance {regions['easy_chance']:.1f}"))
    cells = "".join(
        f'<div class="tile"><b>{value:.1f}</b>{safe(what)}<span>{safe(level)}</span></div>'
        for value, what, level in tiles
    )
    return f'<div class="tiles">{cells}</div>\n' if cells else ""


def _data(report: Report) -> str:
    data = report.metrics.get("data", {})
    if not data:
        return ""
    causes = sorted({cause for facts in data.values() for cause in facts["dropped"]})
    rows = [
        [name, facts["rows_in"], *(facts["dropped"].get(cause, 0) for cause in causes), facts["rows_out"]]
        for name, facts in data.items()
    ]
    prints = ", ".join(f"{name} {facts['fingerprint'][:16]}" for name, facts in data.items())
    return (
        "<h2>What it was trained on</h2>\n<p>Every row of the published list is either trained on or counted as lost, "
        "with the cause.</p>\n"
        + table(["corpus", "rows in", *(cause.replace("_", " ") for cause in causes), "rows out"], rows)
        + f'<p class="soft">Fingerprints of the content: {safe(prints)}</p>\n'
    )


def _results(report: Report) -> str:
    parts = [_retrieval_table(report), _grounding_table(report), _regions_table(report), _superpixels_table(report)]
    content = "".join(part for part in parts if part)
    return f"<h2>Results</h2>\n{content}" if content else ""


def _not_run(entries: Mapping[str, Any]) -> str:
    return "".join(
        f'<p class="soft">{safe(name)} was not run: {safe(entry["not_run"])}</p>\n'
        for name, entry in entries.items()
        if isinstance(entry, Mapping) and "not_run" in entry
    )


def _retrieval_table(report: Report) -> str:
    entries = report.metrics.get("retrieval", {})
    if not entries:
        return ""
    ks = (1, 5, 10)
    keys = [f"{direction}_r{k}" for direction in ("i2t", "t2i") for k in ks]
    rows: list[list[object]] = []
    kinds: list[str] = []
    for name, entry in entries.items():
        if "not_run" in entry:
            continue
        note = f": {report.notes[name]}" if name in report.notes else ""
        rows.append([f"{name}, {entry['pairs']:,} pairs{note}", *[""] * 6])
        kinds.append("head")
        blends = sorted(key for key in entry if key.startswith("blend_"))
        for mode in ("whole", "part", *blends):
            label = f"CAFT++, part weight {mode[6:]}" if mode in blends else f"{mode} score"
            rows.append([label, *(entry[mode][key] for key in keys)])
            kinds.append("")
        rows.append(["chance", *(min(100.0, 100 * k / entry["pairs"]) for _ in range(2) for k in ks)])
        kinds.append("control")
        if entry["tied_rows"]:
            rows.append([f"{entry['tied_rows']} tied rows, counted as misses", *[""] * 6])
            kinds.append("control")
    header = ["score", *(f"{direction} R@{k}" for direction in ("I2T", "T2I") for k in ks)]
    charts = "".join(_blend_chart(name, report.blend) for name in entries)
    return (
        "<h3>Long-text retrieval</h3>\n"
        + (table(header, rows, kinds) if rows else "")
        + _not_run(entries)
        + (f'<div class="charts">{charts}</div>\n' if charts else "")
    )


def _blend_chart(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for colour, key in enumerate(("i2t_r1", "t2i_r1")):
        for space in ("logit", "cosine"):
            points = [(row["weight"], row[key]) for row in rows if row["set"] == name and row["space"] == space]
            direction = key[:3].upper()
            lines.append(Series(f"{direction}, {space}s mixed", points, colour, dashed=space == "cosine"))
    return line_chart(f"R@1 by part weight, {name}", lines, "weight of the part score", "percent", from_zero=True)


def _grounding_table(report: Report) -> str:
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


def _regions_table(report: Report) -> str:
    scores = report.metrics.get("regions", {})
    if not scores:
        return ""
    if "not_run" in scores:
        return f'<h3>Regions</h3>\n<p class="soft">Not run: {safe(scores["not_run"])}</p>\n'
    rows: list[list[object]] = [
        ["right description above all wrong ones", *(scores[level] for level in REGION_FILES)],
        ["the same, ties as hits", *(scores[f"{level}_optimistic"] for level in REGION_FILES)],
        ["chance", *(scores[f"{level}_chance"] for level in REGION_FILES)],
    ]
    return (
        "<h3>Which description fits the box?</h3>\n<p>Wrong descriptions differ in one attribute (hard), two, three "
        "(easy), or altogether (trivial). On hard, a model that knows the colour alone is <em>below</em> chance, since "
        "most wrong descriptions have the right colour.</p>\n"
        + table([f"{scores['rows']:,} boxes", *REGION_FILES], rows, ["", "control", "control"])
    )


def _superpixels_table(report: Report) -> str:
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


def _training(report: Report) -> str:
    charts = []
    for title, unit, from_zero, lines in _CURVES:
        series = [
            Series(name, [(row["step"], row[key]) for row in report.curves if key in row], colour)
            for colour, (name, key) in enumerate(lines)
        ]
        charts.append(line_chart(title, series, "step", unit, from_zero))
    content = "".join(charts)
    if not content:
        return ""
    train = report.metrics.get("train", {})
    waiting = f"<p>Waiting for data took {100 * train['data_wait_share']:.1f}% of the time.</p>\n" if train else ""
    return f'<h2>Training</h2>\n{waiting}<div class="charts">{content}</div>\n'


def _retrieval(report: Report) -> str:
    if report.retrieval is None:
        return ""
    name, benchmark, of_texts, of_images = report.retrieval
    blocks = [
        f"<h2>What is retrieved</h2>\n<p>Set {safe(name)}, CAFT++ score. Queries at even distances through the set, not "
        "chosen by their outcome. The right answer is framed green.</p>\n<h3>A text looks for its image</h3>\n"
    ]
    for case in of_texts:
        places = list(enumerate(case.best, start=1))
        if case.query not in case.best:
            places.append((case.rank, case.query))
        thumbnails = "".join(
            captioned(_thumbnail(benchmark.images[i]), f"{place}, right", "truth")
            if i == case.query
            else captioned(_thumbnail(benchmark.images[i]), str(place))
            for place, i in places
        )
        text = safe(benchmark.captions[case.query])
        blocks.append(f'<div class="case"><p>{_rank(case)} {text}</p><div class="row">{thumbnails}</div></div>\n')
    blocks.append("<h3>An image looks for its text</h3>\n")
    for case in of_images:
        items = "".join(
            f'<li class="{"truth" if i == case.query else ""}">{safe(benchmark.captions[i])}</li>'
            for i in case.best[:3]
        )
        if case.query not in case.best[:3]:
            items += f'<li class="truth" value="{case.rank}">{safe(benchmark.captions[case.query])}</li>'
        image = captioned(_thumbnail(benchmark.images[case.query]), f"image {benchmark.ids[case.query]}")
        blocks.append(
            f'<div class="case"><p>{_rank(case)}</p><div class="answers">{image}<ol>{items}</ol></div></div>\n'
        )
    return "".join(blocks)


def _rank(case: Retrieved) -> str:
    return (
        '<span class="hit">found first.</span>' if case.rank == 1 else f'<span class="miss">place {case.rank}.</span>'
    )


def _attention(report: Report) -> str:
    if not report.looks:
        return ""
    blocks = [
        "<h2>Where each sentence looks</h2>\n<p>Every sentence of a long caption asks the segments of its image; bright is "
        "where its attention lies. Each map has its own scale.</p>\n"
    ]
    for look in report.looks:
        shown = fit(look.image, _SIDE)
        figures = captioned(shown, "the image") + "".join(
            captioned(overlay(shown, values), text) for text, values in zip(look.texts, look.maps, strict=True)
        )
        blocks.append(f'<div class="case"><div class="row">{figures}</div></div>\n')
    return "".join(blocks)


def _referring(report: Report) -> str:
    if not report.segmented:
        return ""
    cases = []
    for case in report.segmented:
        shown = fit(case.image, _SIDE)
        truth = outline(shown, case.truth, TRUTH)
        mask = outline(overlay(shown, case.values), case.mask, PREDICTION)
        cases.append(captioned(truth, case.text) + captioned(mask, f"IoU {100 * case.iou:.0f}"))
    rows = "".join(
        f'<div class="case"><div class="row">{"".join(cases[i : i + 3])}</div></div>\n' for i in range(0, len(cases), 3)
    )
    return (
        "<h2>Which object is meant</h2>\n<p>Left of each pair: the object that the expression means, in green. Right: the "
        "attention, and in red the mask that Otsu's threshold makes of it. Expressions at even distances through the "
        f"set.</p>\n{rows}"
    )


def _segments(report: Report) -> str:
    if not report.nested:
        return ""
    rows = []
    for case in report.nested:
        shown = fit(case.image, _SIDE)
        figures = captioned(shown, "the image")
        for number, labels in enumerate(case.levels):
            count = len(set(labels.ravel().tolist()))
            caption = f"{count} superpixels" if number == 0 else f"{count} segments"
            figures += captioned(segmentation(shown, labels), caption)
        rows.append(f'<div class="case"><div class="row">{figures}</div></div>\n')
    return (
        "<h2>From superpixels to a few segments</h2>\n<p>Each level groups the segments of the one before; every segment is "
        f"drawn in its mean colour, by its most likely group. Nothing here was trained on masks.</p>\n{''.join(rows)}"
    )


def _settings(report: Report) -> str:
    rows = [[key, value] for key, value in _flat("", {k: v for k, v in report.card.items() if k != "data"})]
    inner = table(["key", "value"], rows)
    return (
        "<h2>Settings</h2>\n<p>What the model was trained with; params.yaml says where in the paper each value stands.</p>\n"
        f"<details><summary>All {len(rows)} values</summary>\n{inner}</details>\n"
    )


def _flat(prefix: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield prefix + key, str(value)


def _thumbnail(path: Path) -> Image.Image:
    return fit(open_image(path), _SIDE)
