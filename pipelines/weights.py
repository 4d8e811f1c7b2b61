"""Stage weights of pipelines/score: which weights are given, and which sets are there; the scores depend on both."""

import argparse
import logging
from dataclasses import asdict

from caft import storage
from caft.data.look import set_state
from caft.eval.given import describe_weights, settings_of
from caft.eval.place import WEIGHTS
from caft.params import Params
from pipelines.stage import run

logger = logging.getLogger(__name__)


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    first, *more = [asdict(describe_weights(setting)) for setting in settings_of(params)]
    for given in (first, *more):
        logger.info("%s: %s, sha256 %s, trained on %s", given["name"], given["kind"], given["sha256"], given["size"])
    storage.write_json(WEIGHTS, {**first, "more": more})
    # Not a dependency of DVC's: that would run the stages of the root graph that render a set.
    sets = {name: set_state(benchmark) for name, benchmark in params.benchmarks.items()}
    storage.write_json(WEIGHTS.with_name("sets.json"), sets)


if __name__ == "__main__":
    run(main)
