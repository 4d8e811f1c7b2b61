"""Values of the section that puts every cell of the paper beside ours."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

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
class Grid:
    """A table in the paper's form: its columns by set, and each row of the paper with ours below it if there may be one."""

    columns: dict[str, list[str]]  # by set, what is measured: "I2T", "T2I"
    rows: list[tuple[str, str, list[Cell | None]]]  # the paper's name, "paper" or "ours", and a cell for each column


def grid(cells: Sequence[Cell]) -> Grid:
    """Returns the cells of a table of recalls in the paper's form."""
    names = list(dict.fromkeys(cell.column for cell in cells))
    columns: dict[str, list[str]] = {}
    for name in names:
        of_set, key = name.split(".", 1)
        columns.setdefault(of_set, []).append(key[:3].upper())
    rows: list[tuple[str, str, list[Cell | None]]] = []
    for row, found in groupby(cells, key=lambda cell: cell.row):
        by_column = {cell.column: cell for cell in found}
        line = [by_column.get(name) for name in names]
        rows.append((row, "paper", line))
        if any(cell.status != "quoted" or cell.ours is not None for cell in by_column.values()):
            rows.append((row, "ours", line))
    return Grid(columns, rows)


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
