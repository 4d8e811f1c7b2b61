"""The section that asks where scores come from: levels of the hierarchy, kinds of query, attributes."""

from caft.eval.report.content import Report
from caft.eval.report.page import safe, table


def analysis(report: Report) -> str:
    """All tables of the analysis."""
    content = _levels(report) + _granularity(report) + _bindings(report)
    return f"<h2>Where the scores come from</h2>\n{content}" if content else ""


def _levels(report: Report) -> str:
    if not report.levels:
        return ""
    rows: list[list[object]] = [
        [
            f"{level.tokens}{', the part level' if level.trained else ''}",
            level.hard,
            level.wrong,
            level.soft,
            level.oracle,
        ]
        for level in report.levels
    ]
    return (
        f"<h3>Masks read at each level of the hierarchy, {safe(report.referring)}</h3>\n<p>The expression asks the tokens of "
        "each stage through the projection of the part level, the only one that was trained to answer. Hard: a pixel has "
        "the attention of its most likely segment; the same masks are read against the other objects of the image (wrong "
        "expression). Soft: it has the mean over all segments by its share in each. The scores above take one of the two "
        "at the part level (evaluation.membership). Bound: the best choice of most likely segments.</p>\n"
        + table(["tokens", "mIoU, hard", "wrong expression", "mIoU, soft", "bound"], rows)
    )


def _granularity(report: Report) -> str:
    if not report.granularity:
        return ""
    rows: list[list[object]] = [[kind.name, kind.words, kind.miou] for kind in report.granularity]
    return (
        f"<h3>From sentences to words</h3>\n<p>The same {report.granularity[0].objects:,} objects, asked for in longer and "
        "shorter ways. A category name means all its objects in the image; the other queries mean one.</p>\n"
        + table(["query", "words", "mIoU"], rows)
    )


def _bindings(report: Report) -> str:
    if not report.bindings:
        return ""
    rows: list[list[object]] = [
        [binding.attribute, binding.expressions, binding.against_one, 50.0, binding.against_all, binding.chance]
        for binding in report.bindings
    ]
    header = ["changed", "expressions", "right above one wrong", "chance", "right above all wrong", "chance"]
    columns = []
    for binding in report.bindings:
        inner: list[list[object]] = [[value, count, miou] for value, (count, miou) in binding.by_value.items()]
        columns.append(f"<div>{table([binding.attribute, 'n', 'mIoU'], inner)}</div>")
    return (
        f"<h3>Which attributes are bound, {safe(report.bound)}</h3>\n<p>The image is asked with the right expression and with "
        "the same words but for one attribute. An attribute at chance is not read from the words, or not seen in the "
        "image.</p>\n"
        + table(header, rows)
        + f'<p>mIoU of the masks by what the object is.</p>\n<div class="columns">{"".join(columns)}</div>\n'
    )
