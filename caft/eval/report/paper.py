"""Values of the section that puts every cell of the paper beside ours."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from caft.eval.analysis.curves import Interval
from caft.eval.analysis.intervals import wilson
from caft.eval.paper.compare import Cell
from caft.eval.paper.targets import load_targets
from caft.eval.report.charts import Chart, Series, line_chart
from caft.eval.report.content import Report

_MEANINGS = {
    "match": "our value is the paper's, by the rule beside it.",
    "differs": "it is not.",
    "partial data": "less than 95 % of the paper's images, for training or scoring: shown, never judged.",
    "not run": "there is no value of ours, for the reason beside it.",
    "quoted": "the paper took the number from another one; ours, if any, stands beside it and is not judged.",
}
_METHODS = {"caft": ("CAFT, whole score", "whole"), "flair": ("FLAIR, conditioned score", "part")}


def paper(report: Report) -> dict[str, Any]:
    """Values of paper.html: all tables, counts of verdicts, and curves over the size of the training data."""
    return {
        "counts": Counter(cell.status for cell in report.paper),
        "meanings": _MEANINGS,
        "tables": [list(cells) for _, cells in groupby(report.paper, key=lambda cell: cell.table)],
        "grid": grid,
        "curves": list(_curves(report)),
    }


@dataclass(frozen=True)
class GridRow:
    """A row of the paper, or ours below it: for each column a value, and a verdict on ours."""

    name: str
    is_ours: bool
    cells: list[tuple[Interval | float | str | None, str]]


@dataclass(frozen=True)
class Grid:
    """A table of recalls in the paper's form: what is measured on each set, "I2T" or "T2I", and the rows."""

    columns: dict[str, list[str]]
    rows: list[GridRow]


def grid(cells: Sequence[Cell]) -> Grid:
    """Returns the cells of a table of recalls in the paper's form and order."""
    table = next(table for table in load_targets().tables if table.id == cells[0].table)
    columns: dict[str, list[str]] = {}
    for name in table.columns:
        of_set, key = name.split(".", 1)
        columns.setdefault(of_set, []).append(key[:3].upper())
    gains = {row.name for row in table.rows if row.gain}
    rows = []
    for row, found in groupby(cells, key=lambda cell: cell.row):
        by_column = {cell.column: cell for cell in found}
        line = [by_column.get(name) for name in table.columns]
        rows.append(GridRow(row, False, [(cell.paper if cell else None, "") for cell in line]))
        if any(cell.status != "quoted" or cell.ours is not None for cell in by_column.values()):
            rows.append(GridRow(row, True, [_ours(cell, row in gains) for cell in line]))
    return Grid(columns, rows)


def _ours(cell: Cell | None, is_gain: bool) -> tuple[Interval | float | str | None, str]:
    """Our value, with its interval unless it is a difference, and its status."""
    if cell is None:
        return None, ""
    value: Interval | float | str | None = cell.ours
    if isinstance(value, float) and cell.evaluated and not is_gain:
        value = wilson(value, cell.evaluated)
    return value, cell.status


def _curves(report: Report) -> Iterator[Chart]:
    """R@1 of every scored model over its training data, for the sets on which several were scored."""
    sets = {name: None for model in report.scored for name, entry in model.retrieval.items() if "whole" in entry}
    images = load_targets().images
    for name in sets:
        lines = []
        for colour, (method, (label, score)) in enumerate(_METHODS.items()):
            for key in ("i2t_r1", "t2i_r1"):
                points = sorted(
                    ((model.images or images[model.size]) / 1e6, entry[score][key])
                    for model in report.scored
                    if model.method == method and model.size and model.reason is None
                    if (entry := model.retrieval.get(name, {})).get(score)
                )
                lines.append(Series(f"{label}, {key[:3].upper()}", points, colour, dashed=key == "t2i_r1"))
        title = f"R@1 by training data, {name}"
        chart = line_chart(title, lines, "million images", "R@1, percent", log=True, span="close")
        if chart and any(len(line.points) > 1 for line in lines):
            yield chart
