"""Stage of pipelines/ablation: the best of some learning rates, by the images that training itself holds out."""

import argparse
import logging
import statistics
from collections.abc import Mapping
from typing import Any

from caft import storage
from caft.eval.analysis.point import description
from caft.params import Params, load_params
from pipelines.stage import run
from pipelines.train import trained

logger = logging.getLogger(__name__)


def arguments_of_a_tuning(parser: argparse.ArgumentParser) -> None:
    """Arguments beyond those of every stage."""
    parser.add_argument("output", help="file to write")
    parser.add_argument("--rates", nargs="+", required=True, metavar="RATE", help="learning rates, one training each")


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage; trainings that ended before are taken as they are."""
    found: dict[str, Any] = {}
    for rate in arguments.rates:
        values = ["init=null", *arguments.set, f"train.learning_rate={rate}"]  # as the rows: pipelines.point
        params = load_params(arguments.params, arguments.overlay, values)
        found[rate] = description(params, trained(params, arguments.overlay))["validation"]
        logger.info("learning rate %s: held-out R@1 %s", rate, found[rate])
    storage.write_json(arguments.output, {"best": float(best(found)), "validation": found})


def best(found: Mapping[str, Mapping[str, float]]) -> str:
    """The rate with the largest mean of its held-out scores; of equal ones, the first."""
    return max(found, key=lambda rate: statistics.fmean(found[rate].values()))


if __name__ == "__main__":
    run(main, more=arguments_of_a_tuning)
