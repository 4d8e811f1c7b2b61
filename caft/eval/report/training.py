"""Values of the sections on training: its curves, with seeds as bands, and the data that it read."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from caft.captions.sentences import SPLITTERS
from caft.eval.analysis.audit import EMPTY, MANY, Audit
from caft.eval.report.charts import Series, Span, line_chart
from caft.eval.report.content import SIDE, Fact, Report
from caft.eval.report.cost import cost_rows
from caft.model.drawing.figures import fit

Rows = list[list[object]]

# Title, unit, span of the axis, and the lines with their columns of plots/train.csv.
_CURVES: list[tuple[str, str, Span, list[tuple[str, str]]]] = [
    ("Losses", "", "zero", [("part", "part_loss"), ("whole", "whole_loss"), ("part, class token", "part_cls_loss")]),
    (
        "R@1 on held-out training images",
        "R@1, percent",
        "close",
        [
            ("I2T, whole", "validation_i2t_r1"),
            ("T2I, whole", "validation_t2i_r1"),
            ("T2I, part", "validation_part_t2i_r1"),
        ],
    ),
    ("Temperatures", "factor of the cosines", "zero", [("part scale", "part_scale"), ("whole scale", "whole_scale")]),
    ("Biases", "", "free", [("part bias", "part_bias"), ("whole bias", "whole_bias")]),
    ("Gradient norm", "before clipping", "zero", [("gradient norm", "grad_norm")]),
    ("Speed", "images a second, all ranks together", "zero", [("images a second", "images_per_s")]),
]


def training(report: Report) -> dict[str, Any]:
    """Values of training.html: with other seeds, the mean over all and a band from the lowest to the highest."""
    runs = [report.curves, *report.other_seeds.values()]
    charts = []
    for title, unit, span, lines in _CURVES:
        series = []
        for colour, (name, key) in enumerate(lines):
            steps = _by_step(runs, key)
            band = [(step, min(values), max(values)) for step, values in steps] if len(runs) > 1 else []
            series.append(Series(name, [(step, sum(v) / len(v)) for step, v in steps], colour, band=band))
        charts.append(line_chart(title, series, "step", unit, span))
    own = report.card.get("seed")
    return {
        "curves": [chart for chart in charts if chart],
        "facts": facts(report),
        "train": report.metrics.get("train", {}),
        "cost": cost_rows(report.metrics.get("train", {})),
        "seed": own,
        "seeds": sorted([int(own or 0), *report.other_seeds]) if report.other_seeds else [],
    }


def facts(report: Report) -> list[Fact]:
    """Rows on the training of metrics/train.json; a number that the file does not have has no row."""
    train = report.metrics.get("train", {})
    rows = []
    if "samples" in train:
        rows.append(Fact("samples", f"{train['samples']:,}", f"images seen, in {train['steps']:,} steps"))
    held_out = train.get("held_out", {})
    for key, name in (("t2i_r1", "T2I"), ("i2t_r1", "I2T"), ("part_t2i_r1", "T2I, part")):
        if key in held_out.get("before", {}) and key in held_out.get("after", {}):
            before, after = held_out["before"][key], held_out["after"][key]
            rows.append(
                Fact(
                    f"held-out R@1, {name}", f"{before:.1f} → {after:.1f} %", "of the given weights, and after training"
                )
            )
    if time := steps_time(report):
        rows.append(Fact("time of the steps", time, "samples over images a second; without validation and stops"))
    if speed := train.get("images_per_s"):
        rows.append(Fact("images a second", f"{speed:,.1f}", "all processes together"))
    if "data_wait_share" in train:
        rows.append(Fact("waiting for data", f"{100 * train['data_wait_share']:.1f} %", "of the time of the steps"))
    return rows


def steps_time(report: Report) -> str | None:
    """How long the steps took, in words; None where nothing says how fast they were."""
    train = report.metrics.get("train", {})
    if not train.get("images_per_s"):
        return None
    seconds = round(train["samples"] / train["images_per_s"])
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes} min {seconds:02} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60:02} min"


def _by_step(runs: Sequence[Sequence[Mapping[str, float]]], key: str) -> list[tuple[float, list[float]]]:
    """Values of all runs at each step that all of them have."""
    of_runs = [{row["step"]: row[key] for row in rows if key in row} for rows in runs]
    steps = dict.fromkeys(chain.from_iterable(of_runs))
    return [(step, [values[step] for values in of_runs]) for step in sorted(steps) if all(step in v for v in of_runs)]


def data(report: Report) -> dict[str, Any]:
    """Values of data.html: what the model was trained on."""
    facts = report.metrics.get("data", {})
    causes = sorted({cause for corpus in facts.values() for cause in corpus["dropped"]})
    measures = [f"{what}_{splitter}" for splitter in SPLITTERS for what in ("sentences", "tokens")]
    corpus = report.corpus
    audits = corpus.audits if corpus else {}
    return {
        "counts": _counts(report),
        "causes": causes,
        "losses": [[name, *(entry["dropped"].get(cause, 0) for cause in causes)] for name, entry in facts.items()],
        "measures": measures,
        "flaws": next((list(flaws) for audit in audits.values() for flaws in audit.flaws.values()), []),
        "many": MANY,
        "suspicious": {name: _suspicious(audit) for name, audit in audits.items()},
        "examples": [row for name, audit in audits.items() for row in _examples(name, audit)],
        "samples": [(sample, fit(sample.image, SIDE)) for sample in corpus.samples] if corpus else [],
    }


def _counts(report: Report) -> Rows:
    """Rows of each corpus from its list to training, and its share of the expected images in percent."""
    rows: Rows = []
    for name, entry in report.metrics.get("data", {}).items():
        audit = report.corpus.audits.get(name) if report.corpus else None
        tables = (audit.addresses, audit.images) if audit else (None, None)
        kept, expected = entry["rows_out"], report.expected.get(name)
        share = 100 * kept / expected if expected else None
        rows.append([name, entry["rows_in"], *tables, kept, expected, share])
    return rows


def _suspicious(audit: Audit) -> Rows:
    """Counts and shares of each flaw by caption field; the share of empty captions is of all rows."""
    rows: Rows = []
    for field, flaws in audit.flaws.items():
        filled = audit.filled(field)
        shares = [_share(flaw.count, audit.images if name == EMPTY else filled) for name, flaw in flaws.items()]
        rows.append([field, *shares, _share(audit.repeats[field].many_rows, filled)])
    return rows


def _examples(corpus: str, audit: Audit) -> Rows:
    """Where a suspicious caption stands, what is suspicious, and the caption."""
    rows: Rows = []
    for field, flaws in audit.flaws.items():
        where = f"{corpus}, {field}"
        rows += [[where, f"{flaw}, row {row}", text] for flaw, found in flaws.items() for row, text in found.examples]
        rows += [[where, f"in {count:,} rows", text] for count, text in audit.repeats[field].top]
    return rows


def _share(count: int, of: int) -> str:
    return f"{count:,} ({100 * count / of:.2f} %)" if count else "0"
