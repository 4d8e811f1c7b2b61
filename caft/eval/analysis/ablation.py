"""The ablation over seeds: scores of each row, paired differences of rows with their intervals, and the cells of Table 3."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caft.errors import DataError
from caft.eval.analysis.paired import Point, contrasts, differences, items_of, means
from caft.eval.paper.compare import Cell, compare
from caft.eval.paper.models import PaperModel, of_model
from caft.eval.paper.targets import load_targets
from caft.params import Params
from caft.train.tracking.origin import changes, commit

GRAPH = "pipelines/ablation/dvc.yaml"
FOLDER, ITEMS = Path("metrics/ablation"), Path("plots/ablation")
# The paper's part score is the mean over the chunks of the conditioned one.
_PAPER = {"whole": "whole", "conditioned": "part"}
COLUMNS = ("row", "set", "score", "compared", "direction", "value", "low", "high", "sd", "seeds")


def summarize(
    runs: Mapping[str, Sequence[Point]], compared: Mapping[str, str], pairs: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Scores of rows over seeds and items, and the paired differences of `pairs`.

    Args:
        runs: Points of each row.
        compared: Score of each row that the paper compares.
        pairs: Row and row that it is compared with.

    Raises:
        DataError: A row has no such score, or its runs differ in more than the seed; or two rows have no seed in common.
    """
    rows: dict[str, Any] = {}
    for row, points in runs.items():
        facts = [{key: point[key] for key in ("learning_rate", "images", "samples", "corpora")} for point in points]
        if any(fact != facts[0] for fact in facts):
            raise DataError(f"{row}: its runs differ in more than the seed: {facts}")
        scores, referring = means(items_of(points))
        if not any(compared[row] in found for found in scores.values()):
            known = sorted({kind for found in scores.values() for kind in found})
            raise DataError(f"{row}: has no score {compared[row]}; it has {', '.join(known)}")
        seeds = [point["seed"] for point in points]
        rows[row] = {**facts[0], "seeds": seeds, "compared": compared[row], "scores": scores, "referring": referring}
    found = [line for first, second in pairs for line in differences(runs, compared, first, second)]
    return {"rows": rows, "differences": found, "contrasts": list(contrasts(runs, compared))}


def paper_cells(
    params: Params, runs: Mapping[str, Sequence[Mapping[str, Any]]], summary: Mapping[str, Any]
) -> list[Cell]:
    """Returns verdicts on the cells of Table 3, by the points of each row and what `summarize` made of them."""
    return table_3(
        [
            paper_model(params, points[0]["card"], points, summary["rows"][row]["scores"], tags(params, points))
            for row, points in runs.items()
        ]
    )


def tags(params: Params, points: Sequence[Mapping[str, Any]]) -> dict[str, str | None]:
    """Tags of the cells that a row fills.

    Its runs are named by their fingerprints, which the runs in MLflow have as a tag. None is opened there: this clone's
    tracker may have none of them.
    """
    fingerprints = " ".join(point["card"]["fingerprint"] for point in points)
    return {"commit": commit(), "changes": changes(), "recipe": params.recipe, "fingerprint": fingerprints}


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
    lines: list[dict[str, Any]] = []
    for row, entry in summary["rows"].items():
        found = [
            (name, kind, way, interval)
            for name, kinds in entry["scores"].items()
            for kind, ways in kinds.items()
            for way, interval in ways.items()
        ]
        found += [(name, "margin", "", interval) for name, interval in entry["referring"].items()]
        for name, kind, way, interval in found:
            where = {
                "row": row,
                "set": name,
                "score": kind,
                "compared": kind == entry["compared"],
                "direction": way[:3],
            }
            lines.append({**where, **interval, "seeds": len(entry["seeds"])})
    return lines
