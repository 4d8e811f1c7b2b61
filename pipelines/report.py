"""Stage report: reports/index.html, one file that shows data, scores with controls, curves and what the model sees."""

import argparse
import csv
import json
import logging
from pathlib import Path
from typing import Any

from caft import storage
from caft.data.benchmarks import Missing, load_referring, load_retrieval
from caft.eval.examples import looks, nested, retrieved, segmented
from caft.eval.features import load_model
from caft.eval.metrics import run_of
from caft.eval.report import Report, render
from caft.params import Params
from pipelines.stage import run

logger = logging.getLogger(__name__)
METRICS = ("data", "superpixels", "train", "retrieval", "grounding", "regions")
PAGE = Path("reports/index.html")


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    model = load_model()
    settings = params.evaluation
    shown: dict[str, Any] = {}
    for name, benchmark in params.benchmarks.items():  # the first set of each kind whose files are there
        if benchmark.kind == "retrieval" and "retrieval" not in shown:
            pairs = load_retrieval(benchmark)
            if not isinstance(pairs, Missing):
                shown["retrieval"] = (name, pairs, *retrieved(model, pairs, settings, count=6))
                shown["looks"] = looks(model, pairs, settings, count=5, sentences=6)
                shown["nested"] = nested(model, pairs.images, count=4)
        elif benchmark.kind == "referring" and "segmented" not in shown:
            expressions = load_referring(benchmark)
            if not isinstance(expressions, Missing):
                shown["segmented"] = segmented(model, expressions, settings, count=12)
    report = Report(
        card=model.card,
        metrics={name: json.loads(Path(f"metrics/{name}.json").read_text()) for name in METRICS},
        curves=_numbers(Path("plots/train.csv")),
        blend=_rows(Path("plots/blend.csv")),
        notes={name: benchmark.note for name, benchmark in params.benchmarks.items() if benchmark.note},
        **shown,
    )
    with storage.replacing(PAGE) as temporary:
        temporary.write_text(render(report), encoding="utf-8")
    tracked = run_of(params, model.card)
    tracked.log_file(PAGE)
    tracked.finish()
    logger.info("%s: %.1f MB; open it in a browser", PAGE, PAGE.stat().st_size / 1e6)


def _rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a CSV file; what reads as a number is one."""
    with path.open(newline="") as file:
        return [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)]


def _numbers(path: Path) -> list[dict[str, float]]:
    """Rows of a CSV file without the cells that are empty."""
    return [{key: value for key, value in row.items() if isinstance(value, float)} for row in _rows(path)]


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


if __name__ == "__main__":
    run(main)
