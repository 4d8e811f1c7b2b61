"""The ablation over seeds: scores of each row, paired differences of rows with their intervals, and the cells of Table 3."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caft import storage
from caft.errors import DataError
from caft.eval.analysis.crossed import by_picture, over_both, same_seeds, verdict
from caft.eval.paper.compare import Cell, compare
from caft.eval.paper.models import PaperModel, of_model
from caft.eval.paper.targets import load_targets
from caft.eval.scores.metrics import run_of
from caft.model.card import ModelCard
from caft.params import Params
from caft.train.tracking.origin import changes, commit

GRAPH = "pipelines/ablation/dvc.yaml"
FOLDER, ITEMS, MODELS = Path("metrics/ablation"), Path("plots/ablation"), Path("models/ablation")
# The paper's part score is the mean over the chunks of the conditioned one.
_PAPER = {"whole": "whole", "conditioned": "part"}
COLUMNS = ("row", "set", "score", "compared", "direction", "value", "low", "high", "sd", "seeds")
WAYS = ("i2t", "t2i")
STEPS = ("flair", "visual_hierarchy", "textual_hierarchy", "hierarchical_loss")  # of Table 3, from FLAIR to CAFT
Point = Mapping[str, Any]
# By set and score: the values of each item in each run, (seeds, items), in percent; of sets of pairs by direction, too.
Items = dict[tuple[str, str, str], NDArray[np.float64]]


def read_points(row: str, folder: Path = FOLDER, items: Path = ITEMS, graph: str = GRAPH) -> list[dict[str, Any]]:
    """Returns the points of a row, one for each seed in their order, with the score of every item as `items`.

    Raises:
        DataError: The row has no point.
    """
    paths = [path for path in folder.glob(f"{row}-*.json") if re.fullmatch(rf"{re.escape(row)}-\d+", path.stem)]
    if not paths:
        raise DataError(f"{folder}: no point of the row {row}; run `dvc repro {graph}`")
    points = [storage.read_json(path, graph) | {"items": storage.read_json(items / path.name, graph)} for path in paths]
    return sorted(points, key=lambda point: int(point["seed"]))


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


def items_of(points: Sequence[Point]) -> Items:
    """The values of all items by set, score and direction; of a referring set the score is `margin`, without direction.

    Expressions of a picture are taken together.
    """
    found: Items = {}
    first = points[0]["items"]
    for name, kinds in first["retrieval"].items():
        for kind in kinds:
            for way in WAYS:
                hits = (point["items"]["retrieval"][name][kind][way] for point in points)
                found[name, kind, way] = np.stack([100.0 * (np.frombuffer(h.encode(), np.uint8) - 48) for h in hits])
    for name, table in first["referring"].items():
        if table["margin"]:
            margins = [point["items"]["referring"][name]["margin"] for point in points]
            found[name, "margin", ""] = by_picture(margins, table["pictures"])
    return found


def means(items: Items) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores by set, kind and direction, and margins by referring set, each with its interval."""
    scores: dict[str, Any] = {}
    referring: dict[str, Any] = {}
    for (name, kind, way), values in items.items():
        if kind == "margin":
            referring[name] = over_both(values, -100, 100).rounded()
        else:
            scores.setdefault(name, {}).setdefault(kind, {})[f"{way}_r1"] = over_both(values, 0, 100).rounded()
    return scores, referring


def differences(
    runs: Mapping[str, Sequence[Point]], compared: Mapping[str, str], first: str, second: str
) -> list[dict[str, Any]]:
    """The first row minus the second, of the seeds that both have: each set, score and direction that both can form.

    The class token's score is `whole` whatever the text that it is compared with: a whole caption or, in rows without
    these, one text (`global` there). `compared` is each row's own compared score, if these are two.

    Raises:
        DataError: They have no seed in common.
    """
    seeds = same_seeds(*([point["seed"] for point in runs[row]] for row in (first, second)))
    if not seeds:
        raise DataError(f"{first} and {second}: have no seed in common; their runs cannot be paired")
    one, other = (items_of([point for point in runs[row] if point["seed"] in seeds]) for row in (first, second))
    result = []
    for score, way, name, of_first, of_second in _both(one, other, compared[first], compared[second]):
        if of_first.shape != of_second.shape:
            raise DataError(f"{first} and {second}: were scored on different items of {name}; run `dvc repro {GRAPH}`")
        interval = over_both(of_first - of_second, -100, 100)
        where = {"first": first, "second": second, "set": name, "score": score, "direction": way}
        result.append({**where, "seeds": len(seeds), **interval.rounded(), "claim": verdict(interval)})
    return result


def contrasts(runs: Mapping[str, Sequence[Point]], compared: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Differences inside rows, and of gains; each with its interval.

    - `blend_W minus whole`: what mixing the part score in brings.
    - `conditioned I2T minus T2I`: of each pair, its image as a query less its caption.
    - `margin`: of a referring set, see `caft.eval.scores.referring_sets.score_margins`.
    - `gain`: what the first row of Table 3 gains over the row before it, less what the second one gains over its own, by the
      compared scores.
    """
    for row, points in runs.items():
        items = items_of(points)
        for (name, kind, way), values in items.items():
            where = {"row": row, "set": name, "direction": way}
            if kind == "margin":
                yield _contrast({**where, "of": kind}, values)
            elif kind.startswith("blend"):
                level = "whole" if (name, "whole", way) in items else "global"
                yield _contrast({**where, "of": f"{kind} minus whole"}, values - items[name, level, way])
            elif kind == "conditioned" and way == "i2t" and values.shape == (other := items[name, kind, "t2i"]).shape:
                yield _contrast({**where, "direction": "", "of": "conditioned I2T minus T2I"}, values - other)
    steps = [row for row in STEPS if row in runs]
    seeds = set.intersection(*({point["seed"] for point in runs[row]} for row in steps)) if steps else set()
    chosen = {row: items_of([point for point in runs[row] if point["seed"] in seeds]) for row in steps if seeds}
    gains = {
        row: {
            (name, way): values - chosen[before][name, compared[before], way]
            for (name, kind, way), values in chosen[row].items()
            if kind == compared[row]
        }
        for before, row in pairwise(chosen)
    }
    for first, second in permutations(gains, 2):
        for (name, way), values in gains[first].items():
            where = {"first": first, "second": second, "set": name, "direction": way, "of": "gain"}
            yield _contrast(where, values - gains[second][name, way])


def _contrast(where: Mapping[str, str], values: NDArray[np.float64]) -> dict[str, Any]:
    interval = over_both(values)
    return {**where, "seeds": len(values), **interval.rounded(), "claim": verdict(interval)}


def _both(
    one: Items, other: Items, own: str, others: str
) -> Iterator[tuple[str, str, str, NDArray[np.float64], NDArray[np.float64]]]:
    """Score, direction and set of what can be compared, with the values of both rows."""
    first, second = ({(n, _level(k), w): values for (n, k, w), values in items.items()} for items in (one, other))
    for (name, kind, way), values in first.items():
        if (name, kind, way) in second:
            yield kind, way, name, values, second[name, kind, way]
    if _level(own) != _level(others):
        for name, kind, way in one:
            if kind == own and (name, others, way) in other:
                yield "compared", way, name, one[name, kind, way], other[name, others, way]


def _level(kind: str) -> str:
    return "whole" if kind == "global" else kind


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
    lines = []
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
