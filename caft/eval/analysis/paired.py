"""Runs over seeds that were scored on the same items: their points, paired differences of rows, and what is made of these."""

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

WAYS = ("i2t", "t2i")
STEPS = ("flair", "visual_hierarchy", "textual_hierarchy", "hierarchical_loss")  # of Table 3, from FLAIR to CAFT
Point = Mapping[str, Any]
# By set and score: the values of each item in each run, (seeds, items), in percent; of sets of pairs by direction, too.
Items = dict[tuple[str, str, str], NDArray[np.float64]]


def read_points(row: str, folder: Path, items: Path, graph: str) -> list[dict[str, Any]]:
    """Returns the points of a row, one for each seed in their order, with the score of every item as `items`.

    Raises:
        DataError: The row has no point.
    """
    paths = [path for path in folder.glob(f"{row}-*.json") if re.fullmatch(rf"{re.escape(row)}-\d+", path.stem)]
    if not paths:
        raise DataError(f"{folder}: no point of the row {row}; run `dvc repro {graph}`")
    points = [storage.read_json(path, graph) | {"items": storage.read_json(items / path.name, graph)} for path in paths]
    return sorted(points, key=lambda point: int(point["seed"]))


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
    result: list[dict[str, Any]] = []
    for score, way, name, of_first, of_second in _both(one, other, compared[first], compared[second]):
        if of_first.shape != of_second.shape:
            raise DataError(f"{first} and {second}: were scored on different items of {name}; run their graph again")
        interval = over_both(of_first - of_second, -100, 100)
        where: dict[str, Any] = {"first": first, "second": second, "set": name, "score": score, "direction": way}
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
