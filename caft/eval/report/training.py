"""The section on training: curves, with seeds as bands."""

from collections.abc import Mapping, Sequence
from itertools import chain

from caft.eval.report.charts import Series, line_chart
from caft.eval.report.content import Report
from caft.eval.report.page import safe

# Title, unit, whether the axis begins at zero, and the lines with their columns of plots/train.csv.
_CURVES: list[tuple[str, str, bool, list[tuple[str, str]]]] = [
    ("Losses", "", True, [("part", "part_loss"), ("whole", "whole_loss"), ("part, class token", "part_cls_loss")]),
    (
        "R@1 on held-out training images",
        "percent",
        True,
        [
            ("I2T, whole", "validation_i2t_r1"),
            ("T2I, whole", "validation_t2i_r1"),
            ("T2I, part", "validation_part_t2i_r1"),
        ],
    ),
    ("Temperatures", "factor of the cosines", True, [("part scale", "part_scale"), ("whole scale", "whole_scale")]),
    ("Biases", "", False, [("part bias", "part_bias"), ("whole bias", "whole_bias")]),
    ("Gradient norm", "before clipping", True, [("gradient norm", "grad_norm")]),
    ("Speed", "images a second, all ranks together", True, [("images a second", "images_per_s")]),
]


def curves(report: Report) -> str:
    """Curves of the run; with other seeds, the mean over all and a band from the lowest to the highest."""
    runs = [report.curves, *report.other_seeds.values()]
    charts = []
    for title, unit, from_zero, lines in _CURVES:
        series = []
        for colour, (name, key) in enumerate(lines):
            steps = _by_step(runs, key)
            band = [(step, min(values), max(values)) for step, values in steps] if len(runs) > 1 else []
            series.append(Series(name, [(step, sum(v) / len(v)) for step, v in steps], colour, band=band))
        charts.append(line_chart(title, series, "step", unit, from_zero))
    content = "".join(charts)
    if not content:
        return ""
    train = report.metrics.get("train", {})
    waiting = f"Waiting for data took {100 * train['data_wait_share']:.1f}% of the time. " if train else ""
    own = report.card.get("seed")
    if report.other_seeds:
        seeds = ", ".join(map(str, sorted([int(own or 0), *report.other_seeds])))
        luck = (
            f"Lines are means over the seeds {seeds}, bands reach from the lowest to the highest; the model of this page "
            f"has seed {own}."
        )
    else:
        luck = f"One seed, {own}; finished runs of other seeds with the same settings appear here as bands."
    return f'<h2>Training</h2>\n<p>{waiting}{safe(luck)}</p>\n<div class="charts">{content}</div>\n'


def _by_step(runs: Sequence[Sequence[Mapping[str, float]]], key: str) -> list[tuple[float, list[float]]]:
    """Values of all runs at each step that all of them have."""
    of_runs = [{row["step"]: row[key] for row in rows if key in row} for rows in runs]
    steps = dict.fromkeys(chain.from_iterable(of_runs))
    return [(step, [values[step] for values in of_runs]) for step in sorted(steps) if all(step in v for v in of_runs)]
