"""Stage summary of pipelines/ablation: scores of the rows over seeds, and paired differences with their intervals."""

import argparse
from pathlib import Path

from caft import storage
from caft.errors import ParamsError
from caft.eval.analysis.ablation import COLUMNS, FOLDER, GRAPH, ITEMS, paper_cells, summarize, table
from caft.eval.analysis.paired import read_points
from caft.eval.report.ablation import ablation_page
from caft.params import Params
from caft.params.file import read
from pipelines.stage import row_and_score, run


def arguments_of_a_summary(parser: argparse.ArgumentParser) -> None:
    """Arguments beyond those of every stage."""
    parser.add_argument(
        "rows",
        nargs="+",
        type=row_and_score,
        metavar="ROW=SCORE",
        help="rows in their order, each with the score that the paper compares",
    )
    parser.add_argument(
        "--pairs", nargs="+", required=True, metavar="ROW-ROW", help="rows to compare: the first minus the second"
    )


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage.

    Raises:
        ParamsError: A pair names a row that there is not.
    """
    compared = dict(arguments.rows)
    runs = {row: read_points(row, FOLDER, ITEMS, GRAPH) for row in compared}
    pairs = [(first, second) for first, _, second in (pair.partition("-") for pair in arguments.pairs)]
    if unknown := sorted({row for pair in pairs for row in pair} - set(runs)):
        raise ParamsError(f"--pairs: {', '.join(unknown)}: no such row; they are {', '.join(runs)}")
    summary = summarize(runs, compared, pairs)
    for row, entry in summary["rows"].items():
        entry["held_out"] = storage.read_json(FOLDER / f"rates/{row}.json", "tune")["validation"]
    storage.write_json("metrics/ablation.json", summary)
    storage.write_csv("plots/ablation/rows.csv", COLUMNS, table(summary))
    cells = paper_cells(params, runs, summary)
    storage.write_json("reports/ablation/paper.json", [cell.record() for cell in cells])
    storage.write_text("reports/ablation/index.html", ablation_page(summary, cells, seeds_not_run()))
    for line in summary["differences"]:
        print("{first} against {second}, {score} {direction} on {set}: {claim}".format(**line))


def seeds_not_run() -> dict[str, list[int]]:
    """Returns the seeds of each row of the graph that have no point yet."""
    found: dict[str, list[int]] = {}
    for name, item in read(Path(GRAPH))["stages"]["row"]["foreach"].items():
        if not (FOLDER / f"{name}.json").exists():
            found.setdefault(item["row"], []).append(item["seed"])
    return found


if __name__ == "__main__":
    run(main, more=arguments_of_a_summary)
