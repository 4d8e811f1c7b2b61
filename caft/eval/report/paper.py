"""Values of the section that puts every cell of the paper beside ours."""

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Any

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
        "curves": list(_curves(report)),
    }


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
        chart = line_chart(title, lines, "million images", "percent", from_zero=True, log=True)
        if chart and any(len(line.points) > 1 for line in lines):
            yield chart
