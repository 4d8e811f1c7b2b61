"""Stage report: reports/index.html, one file that shows data, scores with controls, curves and what the model sees."""

import argparse
import logging
from collections import Counter

import torch

from caft import storage
from caft.eval.paper.models import of_given_sizes, of_page
from caft.eval.place import place_of
from caft.eval.report import report_page
from caft.eval.report.gather import gather, read_metrics
from caft.eval.scores.metrics import run_of
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
    page, cells = place.reports / "index.html", place.reports / "paper.json"
    storage.write_text(page, report_page(report))
    storage.write_json(cells, [cell.record() for cell in report.paper])
    tracked.log_file(page)
    tracked.log_file(cells)
    counts = Counter(cell.status for cell in report.paper)
    logger.info("the paper's cells: %s", ", ".join(f"{count} {status}" for status, count in counts.items()))
    logger.info("%s: %.1f MB; open it in a browser", page, page.stat().st_size / 1e6)


if __name__ == "__main__":
    run(main, external=True)
