"""Stage summary of pipelines/ablation: scores of the rows over seeds, and which differences the intervals separate."""

import argparse
import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from caft import storage
from caft.errors import DataError
from caft.eval.analysis.curves import Interval, order, over_seeds
from caft.eval.paper.compare import Cell, compare
from caft.eval.paper.scored import Scored, of_model
from caft.eval.paper.targets import load_targets
from caft.eval.report.ablation import ablation_page
from caft.eval.scores.metrics import run_of
from caft.model.card import ModelCard
from caft.params import Params
from caft.train.tracking.runs import commit
from pipelines.stage import run

FOLDER, MODELS = Path("metrics/ablation"), Path("models/ablation")
# The paper's part score is the mean over the chunks of the conditioned one.
_PAPER = {"whole": "whole", "conditioned": "part"}
COLUMNS = ("row", "set", "score", "compared", "direction", "value", "low", "high", "sd", "seeds")


def arguments_of_a_summary(parser: argparse.ArgumentParser) -> None:
    """Arguments beyond those of every stage."""
    parser.add_argument(
        "rows", nargs="+", metavar="ROW=SCORE", help="rows in their order, each with the score that the paper compares"
    )


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    compared = dict(row.split("=") for row in arguments.rows)
    runs = {row: runs_of(row) for row in compared}
    summary = summarize(runs, compared)
    for row, entry in summary["rows"].items():
        entry["held_out"] = storage.read_json(FOLDER / f"rates/{row}.json", "tune")["validation"]
    storage.write_json("metrics/ablation.json", summary)
    with (
        storage.replacing("plots/ablation/rows.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table(summary))
    rows = []
    for row, points in runs.items():
        seeds = [MODELS / f"{row}-{point['seed']}/caft.json" for point in points]
        cards = [storage.read_json(path, "pipelines/ablation/dvc.yaml") for path in seeds]
        rows.append(scored(params, cards[0], points, summary["rows"][row]["scores"], origin(params, cards)))
    cells = table_3(rows)
    storage.write_json("reports/ablation/paper.json", [cell.record() for cell in cells])
    storage.write_text("reports/ablation/index.html", ablation_page(summary, cells))
    for claim in summary["order"]:
        print("{first} is {claim} against {second}: {set}, {direction} R@1".format(**claim))


def runs_of(row: str) -> list[dict[str, Any]]:
    """Points of a row, one a seed."""
    paths = [path for path in sorted(FOLDER.glob(f"{row}-*.json")) if re.fullmatch(rf"{row}-\d+", path.stem)]
    if not paths:
        raise DataError(f"{FOLDER}: no point of the row {row}; run `dvc repro pipelines/ablation/dvc.yaml`")
    return [storage.read_json(path, "pipelines/ablation/dvc.yaml") for path in paths]


def summarize(runs: Mapping[str, Sequence[Mapping[str, Any]]], compared: Mapping[str, str]) -> dict[str, Any]:
    """Scores over seeds, and orders of neighbouring rows.

    Args:
        runs: Points of each row, the rows in their order.
        compared: The score of each row that the paper compares.

    Raises:
        DataError: A row has no such score, or its runs differ in more than the seed.
    """
    rows: dict[str, Any] = {}
    for row, points in runs.items():
        facts = [{key: point[key] for key in ("learning_rate", "images", "samples", "corpora")} for point in points]
        if any(fact != facts[0] for fact in facts):
            raise DataError(f"{FOLDER}: runs of {row} differ in more than the seed: {facts}")
        rows[row] = {
            **facts[0],
            "seeds": [point["seed"] for point in points],
            "compared": compared[row],
            "scores": _over_seeds([point["scores"] for point in points]),
        }
        if not any(compared[row] in found for found in rows[row]["scores"].values()):
            known = sorted({kind for found in rows[row]["scores"].values() for kind in found})
            raise DataError(f"{row}: has no score {compared[row]}; it has {', '.join(known)}")
    return {"rows": rows, "order": _orders(rows)}


def _over_seeds(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        name: {
            kind: {way: over_seeds([point[name][kind][way] for point in points]).rounded() for way in ways}
            for kind, ways in entry.items()
            if isinstance(ways, Mapping)
        }
        for name, entry in points[0].items()
        if "not_run" not in entry
    }


def _orders(rows: Mapping[str, Any]) -> list[dict[str, str]]:
    """Each row against the one before, by the compared scores: an order only where their intervals are apart."""
    claims = []
    for before, row in pairwise(rows):
        first, second = (rows[name]["scores"] for name in (row, before))
        for name in first:
            for way in ("i2t_r1", "t2i_r1"):
                ours = Interval(**first[name][rows[row]["compared"]][way])
                theirs = Interval(**second[name][rows[before]["compared"]][way])
                claims.append(
                    {
                        "first": row,
                        "second": before,
                        "set": name,
                        "direction": way[:3].upper(),
                        "claim": order(ours, theirs),
                    }
                )
    return claims


def origin(params: Params, cards: Sequence[Mapping[str, Any]]) -> dict[str, str | None]:
    """Tags of the cells that a row fills; fingerprints and MLflow runs of its seeds stand side by side."""
    runs_of_seeds = [run_of(params, ModelCard.model_validate(card, strict=False)) for card in cards]
    for tracked in runs_of_seeds:
        tracked.finish()
    return {
        "commit": commit(),
        "mlflow_run": " ".join(tracked.run_id for tracked in runs_of_seeds),
        "recipe": params.recipe,
        "fingerprint": " ".join(card["fingerprint"] for card in cards),
    }


def scored(
    params: Params,
    card: Mapping[str, Any],
    points: Sequence[Mapping[str, Any]],
    over: Mapping[str, Mapping[str, Any]],
    tags: Mapping[str, str | None],
) -> Scored:
    """A row as one that may fill cells of the paper, by its means over seeds and their deviations.

    Args:
        params: The settings.
        card: Of the model of any seed.
        points: The row's runs.
        over: Its scores over seeds, by set and kind.
        tags: Of the cells.
    """
    retrieval: dict[str, dict[str, Any]] = {}
    deviations: dict[str, float] = {}
    for name, entry in points[0]["scores"].items():
        if "not_run" in entry:
            retrieval[name] = {"not_run": entry["not_run"]}
            continue
        retrieval[name] = {"pairs": entry["pairs"]}
        for kind, ways in over[name].items():
            if kind in _PAPER:
                retrieval[name][_PAPER[kind]] = {way: found["value"] for way, found in ways.items()}
                deviations |= {
                    f"retrieval/{name}/{_PAPER[kind]}/{way}": found["sd"] or 0.0 for way, found in ways.items()
                }
    return of_model(card, params, {"retrieval": retrieval}, tags, deviations)


def table_3(rows: Sequence[Scored]) -> list[Cell]:
    """Verdicts on the cells of Table 3."""
    targets = load_targets()
    return compare(replace(targets, tables=[table for table in targets.tables if table.id == "Table 3"]), rows, {})


def table(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line for each row, set, score and direction."""
    return [
        {
            "row": row,
            "set": name,
            "score": kind,
            "compared": kind == entry["compared"],
            "direction": way[:3],
            **interval,
            "seeds": len(entry["seeds"]),
        }
        for row, entry in summary["rows"].items()
        for name, kinds in entry["scores"].items()
        for kind, ways in kinds.items()
        for way, interval in ways.items()
    ]


if __name__ == "__main__":
    run(main, more=arguments_of_a_summary)
