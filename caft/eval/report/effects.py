"""The ablation, the curves over the data and the forms of the loss as Markdown, for docs/results.md and the README."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_WAYS = ("i2t", "t2i")
_BASELINES = ("siglip", "softmax")  # rows that the paper's table does not have
Summary = Mapping[str, Any]


def ablation(summary: Summary) -> str:
    """All scores of metrics/ablation.json, and a sentence for each pair of rows, score, set and direction."""
    rows = summary["rows"]
    first = next(iter(rows.values()))
    columns = [(name, way) for name in first["scores"] for way in _WAYS]
    heads = [f"`{name}` {way.upper()}" for name, way in columns]
    scores = [
        [f"`{row}`, {kind}{' *' if kind == entry['compared'] else ''}"]
        + [_interval(entry["scores"][name][kind][f"{way}_r1"]) for name, way in columns]
        + [f"{entry['learning_rate']:g}"]
        for row, entry in rows.items()
        for kind in next(iter(entry["scores"].values()))
    ]
    sets = list(dict.fromkeys(name for entry in rows.values() for name in entry["referring"]))
    margins = [
        [f"`{row}`", *(_interval(entry["referring"][name]) for name in sets)]
        for row, entry in rows.items()
        if entry["referring"]
    ]
    lines = summary["differences"]
    pairs = [
        [f"{_pair(key)}, {key[2]}", *(_claim(lines, key, name, way) for name, way in columns)]
        for key in _keys(line for line in lines if line["score"] != "margin")
    ]
    of_margins = [
        [_pair(key), *(_claim(lines, key, name, "") for name in sets)]
        for key in _keys(line for line in lines if line["score"] == "margin")
    ]
    samples, seeds, chance = first["samples"], _seeds(rows), -(-len(lines) // 20)
    baselines = " and ".join(f"`{row}`" for row in _BASELINES if row in rows)
    return f"""Rows of Table 3{", and for comparison " if baselines else ""}{baselines}, each at the better of the same learning
rates, with {samples:,} samples and {seeds} seeds. R@1 in percent: mean, and the 95 % interval for other seeds and other
queries at once. The starred score is the one that is compared.

{_table(["row, score", *heads, "rate"], scores)}

Referring expressions: mean IoU less that of the wrong expression, in points; a map that ignores the words has zero.

{_table(["row", *(f"`{name}`" for name in sets)], margins)}

Row against row, paired by seed and query. `whole` is the class token's score, with the whole caption or, in rows without
these, with one text; `compared` is each row's own starred score, where these are two. Every interval stands for itself: of
{len(lines)} comparisons, about {chance} would be separated by chance if nothing differed.

{_table(["row against row, score", *heads], pairs)}

{_table(["row against row, margin", *(f"`{name}`" for name in sets)], of_margins)}
"""


def ablation_in_short(summary: Summary) -> str:
    """A line for each pair of rows: texts to images by the compared scores, and the referring margin of one set."""
    lines = summary["differences"]
    sets = list(next(iter(summary["rows"].values()))["scores"])
    margin = next((line["set"] for line in lines if line["score"] == "margin"), None)
    table = []
    for first, second in dict.fromkeys((line["first"], line["second"]) for line in lines):
        kinds = {line["score"] for line in lines if (line["first"], line["second"]) == (first, second)}
        own = summary["rows"][first]["compared"]
        score = "compared" if "compared" in kinds else "whole" if own == "global" else own
        found = [_claim(lines, (first, second, score), name, "t2i") for name in sets]
        found.append(_claim(lines, (first, second, "margin"), margin or "", ""))
        table.append([_pair((first, second)), *found])
    heads = [*(f"`{name}` T2I" for name in sets), f"referring, `{margin}`"]
    seeds = _seeds(summary["rows"])
    where = "docs/results.md#ablation-and-scaling"
    return f"""Rows of Table 3 over {seeds} seeds, by the score that is compared; [all scores]({where}):

{_table(["row against row", *heads], table)}
"""


def _seeds(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """How many seeds the rows have; of a study that is not at its end, from the fewest to the most."""
    counts = {len(entry["seeds"]) for entry in rows.values()}
    return str(max(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"


def scaling(summary: Summary) -> str:
    """Slopes, where the curves are flat, and the differences of the methods, of metrics/scaling.json."""
    fits, contrasts = summary["fits"], summary["contrasts"]
    columns = list(dict.fromkeys((fit["set"], fit["direction"]) for fit in fits))
    heads = [f"`{name}` {way.upper()}" for name, way in columns]
    slopes: list[list[str]] = []
    flat: list[list[str]] = []
    apart: list[list[str]] = []
    for curve, method, score in dict.fromkeys((fit["curve"], fit["method"], fit["score"]) for fit in fits):
        found = {(f["set"], f["direction"]): f for f in fits if (f["curve"], f["method"]) == (curve, method)}
        name = f"{curve}, `{method}`, {score}"
        slopes.append([name, *(_interval({**found[column], "value": found[column]["slope"]}) for column in columns)])
        flat.append([name, *(_flat(found[column]) for column in columns)])
    for curve, of in dict.fromkeys((line["curve"], line["of"]) for line in contrasts):
        cells = {(c["set"], c["direction"]): c for c in contrasts if (c["curve"], c["of"]) == (curve, of)}
        apart.append([f"{curve}, {of}", *(_interval(cells[column]) for column in columns)])
    images = [rest["images"] for rest in fits[0]["residuals"]]
    smallest, most, seeds = images[0], images[-1], fits[0]["seeds"]
    largest = max(abs(rest["value"]) for fit in fits for rest in fit["residuals"])
    minus = " minus ".join(f"`{method}`" for method in summary["compared"])
    return f"""R@1 against the number of training images, {smallest:,} to {most:,}, with {seeds} seeds. *Equal epochs*, the
paper's rule: the same number of passes over the images for every size, so that larger sets are also trained for longer.
*Equal samples*: the same number for every size. Points for ten times the images, with 95 % intervals for other seeds and
other queries at once:

{_table(["curve, method, score", *heads], slopes)}

The size after which no step to the next is separated from zero, and the most that a step beyond it may still bring:

{_table(["curve, method, score", *heads], flat)}

{minus}, paired by seed and query; a level is a mean over the sizes:

{_table(["curve, of", *heads], apart)}

What the lines leave over at each size is in `metrics/scaling.json`; it is {largest:.1f} points at most.
"""


def batches(summary: Summary) -> str:
    """Sigmoid minus softmax by batch, of metrics/batches.json; the whole score."""
    lines = [line for line in summary["differences"] if line["score"] == "whole"]
    columns = list(dict.fromkeys((line["set"], line["direction"]) for line in lines))
    found = {(line["batch"], line["set"], line["direction"]): line for line in lines}
    gaps = {(line["set"], line["direction"]): line for line in summary["gaps"] if line["score"] == "whole"}
    smallest, largest = min(summary["batches"]), max(summary["batches"])
    table = [[str(b), *(_interval(found[b, *column]) for column in columns)] for b in summary["batches"]]
    table.append([f"at {smallest} less at {largest}", *(_interval(gaps[column]) for column in columns)])
    seeds = lines[0]["seeds"]
    return f"""Sigmoid minus softmax in the whole score, by the batch, with {seeds} seeds and the same samples: points of R@1
with 95 % intervals for other seeds and other queries at once.

{_table(["batch", *(f"`{name}` {way.upper()}" for name, way in columns)], table)}
"""


def _keys(lines: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    return list(dict.fromkeys((line["first"], line["second"], line["score"]) for line in lines))


def _pair(key: Sequence[str]) -> str:
    return f"`{key[0]}` against `{key[1]}`"


def _claim(lines: Sequence[Mapping[str, Any]], key: Sequence[str], name: str, way: str) -> str:
    where = (*key, name, way)
    keys = ("first", "second", "score", "set", "direction")
    return next((str(line["claim"]) for line in lines if tuple(line[k] for k in keys) == where), "–")


def _flat(fit: Mapping[str, Any]) -> str:
    if fit["flat_after"] is None:
        return "still rising"
    most = max(step["high"] for step in fit["steps"] if step["from"] >= fit["flat_after"])
    return f"{fit['flat_after']:,}, at most {most:.1f}"


def _interval(found: Mapping[str, Any]) -> str:
    ends = "" if found["low"] is None else f" ({found['low']:.1f} to {found['high']:.1f})"
    return f"{found['value']:.1f}{ends}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
