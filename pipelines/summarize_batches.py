"""Stage summary of pipelines/batches: sigmoid against softmax at each batch, and how the difference changes with it."""

import argparse

from caft import storage
from caft.eval.analysis.batches import read, summarize
from caft.params import Params
from pipelines.stage import run


def arguments_of_a_summary(parser: argparse.ArgumentParser) -> None:
    """Arguments beyond those of every stage."""
    parser.add_argument(
        "batches", nargs="+", type=int, metavar="BATCH", help="batches that both forms were trained with"
    )


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    summary = summarize(read(arguments.batches), arguments.batches)
    storage.write_json("metrics/batches.json", summary)
    for line in summary["differences"]:
        print("batch {batch}, sigmoid against softmax, {score} {direction} on {set}: {claim}".format(**line))


if __name__ == "__main__":
    run(main, more=arguments_of_a_summary)
