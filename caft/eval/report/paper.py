"""The section that puts every cell of the paper beside ours."""

from collections import Counter
from itertools import groupby

from caft.eval.paper.targets import load_targets
from caft.eval.report.cells import folded
from caft.eval.report.charts import Series, line_chart
from caft.eval.report.content import Report
from caft.eval.report.page import terms

_MEANINGS = {
    "match": "our value is the paper's, by the rule beside it.",
    "differs": "it is not.",
    "partial data": "less than 95 % of the paper's images, for training or scoring: shown, never judged.",
    "not run": "there is no value of ours, for the reason beside it.",
    "quoted": "the paper took the number from another one; ours, if any, stands beside it and is not judged.",
}
_METHODS = {"caft": ("CAFT, whole score", "whole"), "flair": ("FLAIR, conditioned score", "part")}


def paper(report: Report) -> str:
    """All tables, each folded, under the counts of verdicts; and the curve over the size of the training data."""
    if not report.paper:
        return ""
    counts = Counter[str](cell.status for cell in report.paper)
    told = ", ".join(f"{counts[status]} {status}" for status in _MEANINGS)
    tables = "".join(folded(list(cells)) for _, cells in groupby(report.paper, key=lambda cell: cell.table))
    return (
        f"<h2>The paper against ours</h2>\n<p>{len(report.paper)} cells of the paper: {told}. The same rows are in "
        "paper.json. Nothing that was trained or scored on rendered scenes is compared with the paper. The ablation and "
        "the curves over the training data have pages of their own: <code>dvc repro pipelines/ablation/dvc.yaml</code> "
        "writes reports/ablation/index.html, <code>dvc repro pipelines/scaling/dvc.yaml</code> "
        "reports/scaling/index.html.</p>\n"
        f"{tables}{_curve(report)}{terms(_MEANINGS)}"
    )


def _curve(report: Report) -> str:
    """R@1 of every scored model over its training data, for the sets that were scored."""
    sets = {name: None for model in report.scored for name, entry in model.retrieval.items() if "whole" in entry}
    images, charts = load_targets().images, ""
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
        if any(len(line.points) > 1 for line in lines):
            shown = [line for line in lines if line.points]
            charts += line_chart(f"R@1 by training data, {name}", shown, "million images", "percent", from_zero=True)
    return f'<div class="charts">{charts}</div>\n' if charts else ""
