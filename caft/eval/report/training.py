"""The sections on data and training: losses by cause, captions, sampled pairs, curves with seeds as bands."""

from collections.abc import Mapping, Sequence
from itertools import chain

from caft.eval.charts import Series, line_chart
from caft.eval.figures import fit
from caft.eval.page import picture, safe, table
from caft.eval.report.content import SIDE, Report

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
_LONGEST = 420  # letters of a caption in the contact sheet


def data(report: Report) -> str:
    """What the model was trained on."""
    return _losses(report) + _captions(report) + _contact_sheet(report)


def _losses(report: Report) -> str:
    facts = report.metrics.get("data", {})
    if not facts:
        return ""
    causes = sorted({cause for corpus in facts.values() for cause in corpus["dropped"]})
    rows = [
        [name, corpus["rows_in"], *(corpus["dropped"].get(cause, 0) for cause in causes), corpus["rows_out"]]
        for name, corpus in facts.items()
    ]
    prints = ", ".join(f"{name} {corpus['fingerprint'][:16]}" for name, corpus in facts.items())
    return (
        "<h2>What it was trained on</h2>\n<p>Every row of the published list is either trained on or counted as lost, "
        "with the cause.</p>\n"
        + table(["corpus", "rows in", *(cause.replace("_", " ") for cause in causes), "rows out"], rows)
        + f'<p class="soft">Fingerprints of the content: {safe(prints)}</p>\n'
    )


def _captions(report: Report) -> str:
    if report.corpus is None:
        return ""
    rows: list[list[object]] = []
    kinds = []
    for name, fields in report.corpus.statistics.items():
        rows.append([name, *[""] * 4])
        kinds.append("head")
        for field, values in fields.items():
            rows.append([field, *(values[key] for key in ("captions", "sentences", "tokens", "characters"))])
            kinds.append("")
    return (
        "<h3>Captions</h3>\n<p>Fields that are not empty, and means over those. Tokens are CLIP's. IB, SV and LLA are the "
        "three annotators.</p>\n" + table(["field", "captions", "sentences", "tokens", "characters"], rows, kinds)
    )


def _contact_sheet(report: Report) -> str:
    if report.corpus is None:
        return ""
    if report.corpus.missing:
        return f'<h3>Samples</h3>\n<p class="soft">None are shown: {safe(report.corpus.missing)}</p>\n'
    cards = []
    for sample in report.corpus.samples:
        lines = "".join(
            f"<p><b>{safe(field)}</b> {safe(text if len(text) <= _LONGEST else text[:_LONGEST] + ' …')}</p>"
            for field, text in sample.captions.items()
        )
        where = f"{sample.corpus}, row {sample.row_id}"
        cards.append(
            f'<div class="card"><figure>{picture(fit(sample.image, SIDE), where)}<figcaption>{safe(where)}</figcaption>'
            f"</figure><div>{lines}</div></div>"
        )
    return (
        "<h3>Samples, as training reads them</h3>\n<p>Pairs at even distances through the training index. If images and "
        f'captions were joined wrongly, it would show here.</p>\n<div class="cards">{"".join(cards)}</div>\n'
    )


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
