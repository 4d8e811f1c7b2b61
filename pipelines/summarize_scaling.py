"""Stage summary of pipelines/scaling: R@1 against images trained on, and the slope of each method.

With `--experiments`, the paper's curve: the points of pipelines/scaling/paper of whatever DVC experiments have run, as the
corpora one by one and merged.
"""

import argparse

from caft import storage
from caft.eval.analysis.scaling import COLUMNS, nested, of_experiments, summarize
from caft.eval.report.scaling import scaling_page
from caft.params import Params
from pipelines.stage import row_and_score, run


def arguments_of_a_summary(parser: argparse.ArgumentParser) -> None:
    """Arguments beyond those of every stage."""
    parser.add_argument(
        "methods",
        nargs="+",
        type=row_and_score,
        metavar="METHOD=SCORE",
        help="methods, each with the score that the paper compares",
    )
    parser.add_argument("--experiments", action="store_true", help="the points of all DVC experiments over corpora")


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    compared = dict(arguments.methods)
    name, points = ("scaling/paper", of_experiments) if arguments.experiments else ("scaling", nested)
    summary, rows = summarize(points(compared), compared)
    storage.write_csv(f"plots/{name}/points.csv", COLUMNS, rows)
    storage.write_json(f"metrics/{name}.json", summary)
    storage.write_text(f"reports/{name}/index.html", scaling_page(summary, rows))
    for fit in summary["fits"]:
        print(
            "{curve}, {method} {score}, {set} {direction}: {slope:.1f} points for ten times the images, "
            "{low:.1f} to {high:.1f}".format(**fit)
        )


if __name__ == "__main__":
    run(main, more=arguments_of_a_summary)
