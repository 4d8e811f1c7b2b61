"""Stage sizes of pipelines/score: retrieval of every given file, for the curve over the size of the training data."""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from caft import storage
from caft.params import Params
from pipelines import evaluate_retrieval
from pipelines.place import WEIGHTS, Place
from pipelines.stage import run


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    first = storage.read_json(WEIGHTS, "pipelines/score/dvc.yaml")
    more = first.pop("more")
    found: list[dict[str, Any]] = [
        {
            "weights": first,
            "retrieval": storage.read_json("metrics/external/retrieval.json", "pipelines/score/dvc.yaml"),
        }
    ]
    for number, weights in enumerate(more, start=1):
        with tempfile.TemporaryDirectory() as folder:
            place = Place(Path(folder), Path(folder), Path(folder), number)
            evaluate_retrieval.main(params, argparse.Namespace(place=place))
            retrieval = json.loads((place.metrics / "retrieval.json").read_text())
        found.append({"weights": weights, "retrieval": retrieval})
    storage.write_json("metrics/external/sizes.json", found)


if __name__ == "__main__":
    run(main)
