"""Two pages of their own: the ablation over seeds, and scores against images trained on."""

from collections.abc import Mapping, Sequence
from typing import Any

from caft.eval.charts import Series, line_chart
from caft.eval.page import page, safe, table

_KINDS = {
    "global": "class token and text",
    "whole": "class token and whole caption",
    "conditioned": "text-conditioned pooling",
}
_WAYS = {"i2t": "I2T", "t2i": "T2I"}


def ablation_page(summary: Mapping[str, Any]) -> str:
    """Returns the page of metrics/ablation.json.

    Args:
        summary: Its content.
    """
    rows = summary["rows"]
    first = next(iter(rows.values()))
    seeds = max(len(entry["seeds"]) for entry in rows.values())
    body = (
        "<h1>Ablation: the rows of Table 3</h1>\n"
        f'<p class="soft">On {safe(", ".join(first["corpora"]))}: {first["images"]:,} images, {first["samples"]:,} samples '
        f"a run, {seeds} seeds. R@1 in percent: mean, and in brackets Student's 95 % interval over the seeds, on the same "
        "queries. The score that is compared is bold; the grey ones are what a row can also form. The learning rate "
        "is the best of those tried, by images that training itself holds out, at the first seed.</p>\n"
    )
    for name in first["scores"]:
        lines: list[list[object]] = []
        kinds: list[str] = []
        for row, entry in rows.items():
            for kind, ways in entry["scores"][name].items():
                compared = kind == entry["compared"]
                label = f"{row}: {_KINDS[kind]}" + (", compared" if compared else "")
                lines.append([label, *(_interval(ways[f"{way}_r1"]) for way in _WAYS), _number(entry["learning_rate"])])
                kinds.append("head" if compared else "control")
        header = ["row and score", *(f"{way} R@1" for way in _WAYS.values()), "learning rate"]
        body += f"<h2>{safe(name)}</h2>\n" + table(header, lines, kinds)
        claims = [claim for claim in summary["order"] if claim["set"] == name]
        body += table(
            ["row", "against", *_WAYS.values()],
            [
                [pair[0], pair[1], *(_claim(claims, pair, way) for way in _WAYS.values())]
                for pair in dict.fromkeys((claim["first"], claim["second"]) for claim in claims)
            ],
        )
    body += "<p>An order is stated only where the two intervals have no point in common.</p>\n"
    return page("CAFT: ablation", body)


def scaling_page(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the page of metrics/scaling.json.

    Args:
        summary: Its content.
        rows: Lines of points.csv.
    """
    body = (
        "<h1>Scores against images trained on</h1>\n"
        '<p class="soft">One run a point. Areas and intervals: 95 % of 2,000 bootstrap samples of the queries; they do '
        "not hold the luck of a seed. Slopes are of least squares over the logarithm: points of R@1 for ten times the "
        "images.</p>\n"
    )
    for curve in dict.fromkeys(fit["curve"] for fit in summary["fits"]):
        fits = [fit for fit in summary["fits"] if fit["curve"] == curve]
        charts = "".join(
            _chart(curve, name, way, rows) for name in dict.fromkeys(fit["set"] for fit in fits) for way in _WAYS
        )
        keys = ["method", "score", "set", "direction", "sizes", "slope", "low", "high"]
        body += f'<h2>{safe(curve.capitalize())}</h2>\n<div class="charts">{charts}</div>\n' + table(
            keys, [[fit[key] for key in keys] for fit in fits]
        )
        if pairs := [found for found in summary["differences"] if found["curve"] == curve]:
            first, second = summary["compared"]
            body += f"<p>Slope of {safe(first)} minus that of {safe(second)}:</p>\n" + table(
                ["set", "direction", "difference", "low", "high", "claim"],
                [[found[key] for key in ("set", "direction", "value", "low", "high", "claim")] for found in pairs],
            )
    return page("CAFT: scaling", body)


def _chart(curve: str, name: str, way: str, rows: Sequence[Mapping[str, Any]]) -> str:
    chosen = [r for r in rows if (r["curve"], r["set"], r["direction"]) == (curve, name, way) and r["compared"]]
    lines = []
    for colour, method in enumerate(dict.fromkeys(row["method"] for row in chosen)):
        mine = sorted((row for row in chosen if row["method"] == method), key=lambda row: row["images"])
        points = [(float(row["images"]), row["r1"]) for row in mine]
        band = [(float(row["images"]), row["low"], row["high"]) for row in mine]
        lines.append(Series(f"{method}, {mine[0]['score']}", points, colour, band=band))
    return line_chart(f"{_WAYS[way]} R@1, {name}, {curve}", lines, "images", "percent", from_zero=True)


def _interval(entry: Mapping[str, float | None]) -> str:
    if entry["low"] is None or entry["high"] is None:
        return f"{entry['value']:.1f}"
    return f"{entry['value']:.1f} ({entry['low']:.1f} to {entry['high']:.1f})"


def _claim(claims: Sequence[Mapping[str, str]], pair: tuple[str, str], way: str) -> str:
    return next(c["claim"] for c in claims if (c["first"], c["second"], c["direction"]) == (*pair, way))


def _number(value: float) -> str:
    return f"{value:g}"
