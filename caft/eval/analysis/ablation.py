"""The ablation over seeds: scores of each row, the orders that their intervals separate, and the cells of Table 3."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from caft import storage
from caft.errors import DataError
from caft.eval.analysis.curves import Interval, order, over_seeds
from caft.eval.paper.compare import Cell, compare
from caft.eval.paper.models import PaperModel, of_model
from caft.eval.paper.targets import load_targets
from caft.eval.scores.metrics import run_of
from caft.model.card import ModelCard
from caft.params import Params
from caft.train.tracking.origin import changes, commit

GRAPH = "pipelines/ablation/dvc.yaml"
FOLDER, MODELS = Path("metrics/ablation"), Path("models/ablation")
# The paper's part score is the mean over the chunks of the conditioned one.
_PAPER = {"whole": "whole", "conditioned": "part"}
COLUMNS = ("row", "set", "score", "compared", "direction", "value", "low", "high", "sd", "seeds")


def read_points(row: str) -> list[dict[str, Any]]:
    """Returns the points of a row, one for each seed.

    Raises:
        DataError: The row has no point.
    """
    paths = [path for path in sorted(FOLDER.glob(f"{row}-*.json")) if re.fullmatch(rf"{row}-\d+", path.stem)]
    if not paths:
        raise DataError(f"{FOLDER}: no point of the row {row}; run `dvc repro {GRAPH}`")
    return [storage.read_json(path, GRAPH) for path in paths]


def summarize(runs: Mapping[str, Sequence[Mapping[str, Any]]], compared: Mapping[str, str]) -> dict[str, Any]:
    """Scores over seeds, and orders of neighbouring rows; `compared` is the score of each row that the paper compares.

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
                where = {"first": row, "second": before, "set": name, "direction": way[:3].upper()}
                claims.append({**where, "claim": order(ours, theirs)})
    return claims


def paper_cells(
    params: Params, runs: Mapping[str, Sequence[Mapping[str, Any]]], summary: Mapping[str, Any]
) -> list[Cell]:
    """Returns verdicts on the cells of Table 3, by the points of each row and what `summarize` made of them.

    Raises:
        DataError: The card of a model is missing.
        TrackingError: The tracker cannot be reached.
    """
    rows = []
    for row, points in runs.items():
        cards = [storage.read_json(MODELS / f"{row}-{point['seed']}/caft.json", GRAPH) for point in points]
        rows.append(paper_model(params, cards[0], points, summary["rows"][row]["scores"], _tags(params, cards)))
    return table_3(rows)


def _tags(params: Params, cards: Sequence[Mapping[str, Any]]) -> dict[str, str | None]:
    """Tags of the cells that a row fills: fingerprints and MLflow runs of its seeds, separated by spaces."""
    tracked = [run_of(params, ModelCard.model_validate(card, strict=False)) for card in cards]
    for run in tracked:
        run.finish()
    return {
        "commit": commit(),
        "changes": changes(),
        "mlflow_run": " ".join(run.run_id for run in tracked),
        "recipe": params.recipe,
        "fingerprint": " ".join(card["fingerprint"] for card in cards),
    }


def paper_model(
    params: Params,
    card: Mapping[str, Any],
    points: Sequence[Mapping[str, Any]],
    over: Mapping[str, Mapping[str, Any]],
    tags: Mapping[str, str | None],
) -> PaperModel:
    """A row as a model that may fill cells of the paper, by `over`: means and deviations over seeds by set and kind.

    The card is that of the model of any seed.
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


def table_3(rows: Sequence[PaperModel]) -> list[Cell]:
    """Verdicts on the cells of Table 3."""
    targets = load_targets()
    table = next(table for table in targets.tables if table.id == "Table 3")
    return compare(targets.model_copy(update={"tables": [table]}), rows, {})


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
