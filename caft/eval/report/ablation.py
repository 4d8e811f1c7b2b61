"""A page of its own: the ablation over seeds, and the paper's table beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

from caft.eval.paper.compare import Cell
from caft.eval.report.page import render

_KINDS = {
    "global": "class token and text",
    "whole": "class token and whole caption",
    "conditioned": "text-conditioned pooling",
    "compared": "the compared scores",
}


def ablation_page(summary: Mapping[str, Any], cells: Sequence[Cell]) -> str:
    """Returns the page of metrics/ablation.json (its content is `summary`), with the cells of the paper's table."""
    rows = summary["rows"].values()
    seeds = max(len(entry["seeds"]) for entry in rows)
    return render("ablation.html", summary=summary, cells=cells, first=next(iter(rows)), seeds=seeds, kinds=_KINDS)
