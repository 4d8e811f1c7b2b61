"""Stage report: reports/index.html, one file that shows data, scores with controls, curves and what the model sees.

Beside it reports/demo.html, a page on which the trained model runs, if it is small enough.
"""

import argparse
import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch

from caft import storage
from caft.data.sets import load_retrieval
from caft.demo.page import absent_page, demo_page, require_page
from caft.demo.scenes import Scenes, of_pairs
from caft.errors import CheckpointError
from caft.eval.paper.models import of_given_sizes, of_page
from caft.eval.place import place_of
from caft.eval.report import report_page
from caft.eval.report.gather import gather, read_metrics
from caft.eval.scores.metrics import run_of
from caft.eval.sets import present_sets
from caft.model.model import Model
from caft.params import Params
from caft.train.tracking.launched import parameters_of
from pipelines.stage import run

logger = logging.getLogger(__name__)


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    # Images are asked one at a time, too little work to share among threads: they would wait for each other.
    torch.set_num_threads(1)
    place = place_of(arguments)
    model = place.model(params)
    metrics = read_metrics(params, place)
    tracked = run_of(params, model.card)
    scored = [of_page(params, model.card, metrics, tracked), *of_given_sizes(params, place)]
    tracked.finish()
    report = gather(params, model, place, metrics, scored, parameters_of(params, tracked.run_id))
    if place.number is None and isinstance(model, Model):
        report = replace(report, live=_write_live_page(params, model))
    page, cells = place.reports / "index.html", place.reports / "paper.json"
    storage.write_text(page, report_page(report))
    storage.write_json(cells, [cell.record() for cell in report.paper])
    tracked.log_file(page)
    tracked.log_file(cells)
    counts = Counter(cell.status for cell in report.paper)
    logger.info("the paper's cells: %s", ", ".join(f"{count} {status}" for status, count in counts.items()))
    logger.info("%s: %.1f MB; open it in a browser", page, page.stat().st_size / 1e6)


def _write_live_page(params: Params, model: Model) -> str:
    """Writes the page on which the model runs, with the first retrieval set; its address, or nothing if it cannot be."""
    page = Path("reports/demo.html")
    try:
        require_page(model)
    except CheckpointError as error:
        logger.info("%s has no live model: %s", page, error)
        storage.write_text(page, absent_page(str(error)))
        return ""
    sets = present_sets(params, {"retrieval": load_retrieval})
    pairs = next(((name, found.one_to_one()) for name, found in sets), None)
    scenes = of_pairs(pairs[0], pairs[1].images, pairs[1].captions) if pairs else Scenes("")
    storage.write_text(page, demo_page(model, scenes))
    logger.info("%s: %.1f MB; try the model in a browser", page, page.stat().st_size / 1e6)
    return page.name


if __name__ == "__main__":
    run(main, external=True)
