"""A page of its own: scores against images trained on."""

from collections.abc import Mapping, Sequence
from typing import Any

from caft.eval.report.charts import Chart, Series, line_chart
from caft.eval.report.page import render

_WAYS = {"i2t": "I2T", "t2i": "T2I"}


def scaling_page(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the page of metrics/scaling.json (its content is `summary`) and points.csv (`rows`)."""
    curves: dict[str, list[Chart]] = {}
    for curve, name in dict.fromkeys((fit["curve"], fit["set"]) for fit in summary["fits"]):
        for way in _WAYS:
            chosen = [row for row in rows if (row["curve"], row["set"], row["direction"]) == (curve, name, way)]
            chart = _chart(f"{_WAYS[way]} R@1, {name}, {curve}", [row for row in chosen if row["compared"]])
            curves.setdefault(curve, []).extend([chart] if chart else [])
    return render("scaling.html", summary=summary, curves=curves, compared=list(summary["compared"]))


def _chart(title: str, rows: Sequence[Mapping[str, Any]]) -> Chart | None:
    lines = []
    for colour, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
        mine = sorted((row for row in rows if row["method"] == method), key=lambda row: row["images"])
        points = [(float(row["images"]), float(row["r1"])) for row in mine]
        band = [(float(row["images"]), row["low"], row["high"]) for row in mine]
        lines.append(Series(f"{method}, {mine[0]['score']}", points, colour, band=band))
    return line_chart(title, lines, "images", "R@1, percent", log=True, span="close")
