"""Values of the section on training: curves, with seeds as bands."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from caft.eval.report.charts import Series, line_chart
from caft.eval.report.content import Report

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


def training(report: Report) -> dict[str, Any]:
    """Values of training.html: with other seeds, the mean over all and a band from the lowest to the highest."""
    runs = [report.curves, *report.other_seeds.values()]
    charts = []
    for title, unit, from_zero, lines in _CURVES:
        series = []
        for colour, (name, key) in enumerate(lines):
            steps = _by_step(runs, key)
            band = [(step, min(values), max(values)) for step, values in steps] if len(runs) > 1 else []
            series.append(Series(name, [(step, sum(v) / len(v)) for step, v in steps], colour, band=band))
        charts.append(line_chart(title, series, "step", unit, from_zero))
    own = report.card.get("seed")
    return {
        "curves": [chart for chart in charts if chart],
        "train": report.metrics.get("train", {}),
        "seed": own,
        "seeds": sorted([int(own or 0), *report.other_seeds]) if report.other_seeds else [],
    }


def _by_step(runs: Sequence[Sequence[Mapping[str, float]]], key: str) -> list[tuple[float, list[float]]]:
    """Values of all runs at each step that all of them have."""
    of_runs = [{row["step"]: row[key] for row in rows if key in row} for rows in runs]
    steps = dict.fromkeys(chain.from_iterable(of_runs))
    return [(step, [values[step] for values in of_runs]) for step in sorted(steps) if all(step in v for v in of_runs)]
