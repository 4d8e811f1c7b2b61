"""A page of its own: the ablation over seeds, and the paper's table beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

from caft.eval.paper.compare import Cell
from caft.eval.report.cells import folded
from caft.eval.report.page import page, safe, table

_KINDS = {
    "global": "class token and text",
    "whole": "class token and whole caption",
    "conditioned": "text-conditioned pooling",
}
_WAYS = ("I2T", "T2I")


def ablation_page(summary: Mapping[str, Any], cells: Sequence[Cell]) -> str:
    """Returns the page of metrics/ablation.json.

    Args:
        summary: Its content.
        cells: The paper's table beside the rows.
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
                lines.append(
                    [label, *(_interval(ways[f"{way.lower()}_r1"]) for way in _WAYS), _number(entry["learning_rate"])]
                )
                kinds.append("head" if compared else "control")
        header = ["row and score", *(f"{way} R@1" for way in _WAYS), "learning rate"]
        body += f"<h2>{safe(name)}</h2>\n" + table(header, lines, kinds)
        claims = [claim for claim in summary["order"] if claim["set"] == name]
        body += table(
            ["row", "against", *_WAYS],
            [
                [pair[0], pair[1], *(_claim(claims, pair, way) for way in _WAYS)]
                for pair in dict.fromkeys((claim["first"], claim["second"]) for claim in claims)
            ],
        )
    body += "<p>An order is stated only where the two intervals have no point in common.</p>\n"
    body += "<h2>The paper against ours</h2>\n" + folded(cells)
    return page("CAFT: ablation", body)


def _interval(entry: Mapping[str, float | None]) -> str:
    if entry["low"] is None or entry["high"] is None:
        return f"{entry['value']:.1f}"
    return f"{entry['value']:.1f} ({entry['low']:.1f} to {entry['high']:.1f})"


def _claim(claims: Sequence[Mapping[str, str]], pair: tuple[str, str], way: str) -> str:
    return next(c["claim"] for c in claims if (c["first"], c["second"], c["direction"]) == (*pair, way))


def _number(value: float) -> str:
    return f"{value:g}"
