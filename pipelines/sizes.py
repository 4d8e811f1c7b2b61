"""Stage sizes of pipelines/score: retrieval of every given file, for the curve over the size of the training data."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from caft import storage
from caft.eval.place import GRAPH, WEIGHTS, Place
from caft.eval.scores.metrics import log_scores, rounded
from caft.eval.scores.retrieval_sets import score_benchmarks
from caft.params import Params
from pipelines.stage import run

FOLDER = Path("metrics/external")


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    first = storage.read_json(WEIGHTS, GRAPH)
    more = first.pop("more")
    found: list[dict[str, Any]] = [{"weights": first, "retrieval": storage.read_json(FOLDER / "retrieval.json", GRAPH)}]
    place = Place(FOLDER, FOLDER, Path("reports/external"))
    for number, weights in enumerate(more, start=1):
        its = replace(place, number=number)
        model = its.model(params)
        scores, _ = score_benchmarks(params, model, its.leaked())
        log_scores(params, model.card, "retrieval", scores)
        found.append({"weights": weights, "retrieval": rounded(scores)})
    storage.write_json(FOLDER / "sizes.json", found)


if __name__ == "__main__":
    run(main)
