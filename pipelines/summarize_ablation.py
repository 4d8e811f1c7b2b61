"""Stage summary of pipelines/ablation: scores of the rows over seeds, and which differences the intervals separate."""

import argparse

from caft import storage
from caft.eval.analysis.ablation import COLUMNS, FOLDER, paper_cells, read_points, summarize, table
from caft.eval.report.ablation import ablation_page
from caft.params import Params
from pipelines.stage import run


def arguments_of_a_summary(parser: argparse.ArgumentParser) -> None:
    """Arguments beyond those of every stage."""
    parser.add_argument(
        "rows", nargs="+", metavar="ROW=SCORE", help="rows in their order, each with the score that the paper compares"
    )


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    compared = dict(row.split("=") for row in arguments.rows)
    runs = {row: read_points(row) for row in compared}
    summary = summarize(runs, compared)
    for row, entry in summary["rows"].items():
        entry["held_out"] = storage.read_json(FOLDER / f"rates/{row}.json", "tune")["validation"]
    storage.write_json("metrics/ablation.json", summary)
    storage.write_csv("plots/ablation/rows.csv", COLUMNS, table(summary))
    cells = paper_cells(params, runs, summary)
    storage.write_json("reports/ablation/paper.json", [cell.record() for cell in cells])
    storage.write_text("reports/ablation/index.html", ablation_page(summary, cells))
    for claim in summary["order"]:
        print("{first} is {claim} against {second}: {set}, {direction} R@1".format(**claim))


if __name__ == "__main__":
    run(main, more=arguments_of_a_summary)
