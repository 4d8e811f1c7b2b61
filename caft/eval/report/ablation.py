"""A page of its own: the ablation over seeds, and the paper's table beside it."""

from collections.abc import Container, Mapping, Sequence
from typing import Any

from caft.eval.analysis.ablation import GRAPH
from caft.eval.paper.compare import Cell
from caft.eval.report.page import render

_KINDS = {
    "global": "class token and text",
    "whole": "class token and whole caption",
    "conditioned": "text-conditioned pooling",
    "compared": "the compared scores",
}


def ablation_page(
    summary: Mapping[str, Any], cells: Sequence[Cell], not_run: Mapping[str, Sequence[int]] | None = None
) -> str:
    """Returns the page of metrics/ablation.json (its content is `summary`), with the cells of the paper's table.

    The page says which seeds of which rows of the graph were `not_run`.
    """
    rows = summary["rows"].values()
    return render(
        "ablation.html",
        summary=summary,
        cells=cells,
        first=next(iter(rows)),
        seeds=max(len(entry["seeds"]) for entry in rows),
        kinds=_KINDS,
        not_run=_in_words(not_run or {}, summary["rows"]),
        graph=GRAPH,
    )


def _in_words(not_run: Mapping[str, Sequence[int]], rows: Container[str]) -> list[str]:
    """Rows without any point, then those that lack the same seeds together."""
    found: dict[tuple[int, ...], list[str]] = {(): []}
    for row, seeds in not_run.items():
        found.setdefault(tuple(seeds) if row in rows else (), []).append(row)
    words = [f"the row{'s' * (len(found[()]) > 1)} {', '.join(found[()])}"] if found[()] else []
    for seeds, names in found.items():
        if seeds:
            words.append(f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))} of {', '.join(names)}")
    return words
