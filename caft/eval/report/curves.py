"""A page of its own: scores against images trained on."""

from collections.abc import Mapping, Sequence
from typing import Any

from caft.eval.report.charts import Series, line_chart
from caft.eval.report.page import page, safe, table

_WAYS = {"i2t": "I2T", "t2i": "T2I"}


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
