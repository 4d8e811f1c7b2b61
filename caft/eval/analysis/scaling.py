"""R@1 against images trained on: a line over the logarithm with its residuals, and from which size on the curve is flat.

All that is derived from a curve (slope, level, residuals, steps from size to size) is a weighted sum of the scores at its
sizes. Formed of each query in each seed, it has a mean over these with an interval for other seeds and other queries.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caft import storage
from caft.errors import DataError
from caft.eval.analysis.crossed import over_both, over_items, verdict
from caft.eval.analysis.curves import Interval

GRAPH, PAPER = "pipelines/scaling/dvc.yaml", "pipelines/scaling/paper/dvc.yaml"
FOLDER, HITS = Path("scaling/metrics"), Path("scaling/plots")
OF_PAPER = Path("metrics/scaling/paper"), Path("plots/scaling/paper")
WAYS = ("i2t", "t2i")
BOTH = "both"  # in the name of a point that is on both curves
COLUMNS = (
    *("curve", "method", "corpora", "images", "samples", "seeds"),
    *("set", "score", "compared", "direction", "r1", "low", "high"),
)
Point = Mapping[str, Any]


def summarize(
    curves: Mapping[str, Sequence[Point]], compared: Mapping[str, str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the content of metrics/scaling.json, and the rows of points.csv.

    Points are by curve; `compared` is the score of each method that the paper compares.

    Raises:
        DataError: Sizes of a curve have other seeds, or were scored on other queries; or a method has no such score.
    """
    for method, kind in compared.items():
        sets = (p["items"]["retrieval"] for points in curves.values() for p in points if p["method"] == method)
        known = {score for kinds in sets for scores in kinds.values() for score in scores}
        if known and kind not in known:
            raise DataError(f"{method}: has no score {kind}; it has {', '.join(sorted(known))}")
    rows = [line for curve, points in curves.items() for line in lines(curve, points, compared)]
    fits = [fit for curve, points in curves.items() for fit in fitted(curve, points, compared)]
    return {"compared": compared, "fits": fits, "contrasts": contrasts(curves, compared)}, rows


def nested(compared: Mapping[str, str]) -> dict[str, list[Point]]:
    """Points of the nested subsets by curve; their names are METHOD-CURVE-SIZE-SEED, and some are on both curves.

    Raises:
        DataError: A method has no points.
    """
    curves: dict[str, list[Point]] = {"equal epochs": [], "equal samples": []}
    for method in compared:
        paths = sorted(FOLDER.glob(f"{method}-*.json"))
        if not paths:
            raise DataError(f"{FOLDER}: no point of {method}; run `dvc repro {GRAPH}`")
        for path in paths:
            point = storage.read_json(path, GRAPH) | {"method": method}
            point["items"] = storage.read_json(HITS / path.name, GRAPH)
            kind = path.stem.removeprefix(f"{method}-").split("-")[0]
            for curve in curves if kind == BOTH else [f"equal {kind}"]:
                curves[curve].append(point)
    return curves


def of_experiments(compared: Mapping[str, str]) -> dict[str, list[Point]]:
    """Points of whole corpora in the commits of DVC's experiments, the newest of equal ones.

    Raises:
        DataError: No experiment has one.
    """
    refs = _git("for-each-ref", "--sort=creatordate", "--format=%(objectname)", "refs/exps/").split()
    found: dict[tuple[str, ...], Point] = {}
    for commit in refs:
        for method in compared:
            try:
                point, items = (json.loads(_git("show", f"{commit}:{folder}/{method}.json")) for folder in OF_PAPER)
            except subprocess.CalledProcessError:
                continue  # an experiment of another graph
            found[(method, *point["corpora"])] = point | {"method": method, "items": items}
    if not found:
        raise DataError(f"no DVC experiment has a point of {PAPER}; docs/curves.md has the command that queues them")
    return {"paper": list(found.values())}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def lines(curve: str, points: Sequence[Point], compared: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows of points.csv, one for each method, size, set, score and direction."""
    result: list[dict[str, Any]] = []
    for method, kind in compared.items():
        for images, mine in _sizes(points, method).items():
            facts: dict[str, Any] = {"curve": curve, "method": method, "images": images, "seeds": len(mine)}
            facts |= {"samples": mine[0]["samples"], "corpora": "+".join(mine[0]["corpora"])}
            for name, kinds in mine[0]["items"]["retrieval"].items():
                for score in kinds:
                    for way in WAYS:
                        found = _interval(_hits(mine, name, score, way), 0, 100).rounded()
                        where: dict[str, Any] = {
                            "set": name,
                            "score": score,
                            "compared": score == kind,
                            "direction": way,
                        }
                        result.append(
                            facts | where | {"r1": found["value"], "low": found["low"], "high": found["high"]}
                        )
    return result


def fitted(curve: str, points: Sequence[Point], compared: Mapping[str, str]) -> list[dict[str, Any]]:
    """The line of each method by the score that the paper compares: slope, residuals, and steps between sizes."""
    fits: list[dict[str, Any]] = []
    for method, kind in compared.items():
        sizes = _sizes(points, method)
        if len(sizes) < 2:
            continue
        images = list(sizes)
        slope, rest = slope_weights(images), residual_weights(images)
        for name in _sets(sizes, kind):
            for way in WAYS:
                values = _curve(sizes, name, kind, way)
                level = float(values.mean())
                rise = _interval(weighted(slope, values))
                middle = float(np.log10(images).mean())
                where: dict[str, Any] = {"curve": curve, "method": method, "score": kind, "set": name, "direction": way}
                steps = [
                    {"from": first, "to": second, **_step(values[place + 1] - values[place])}
                    for place, (first, second) in enumerate(pairwise(images))
                ]
                fits.append(
                    where
                    | {"sizes": len(images), "seeds": values.shape[1], "slope": rise.rounded()["value"]}
                    | {key: rise.rounded()[key] for key in ("low", "high")}
                    | {"intercept": round(level - rise.value * middle, 2)}
                    | {"residuals": [
                        {"images": size, **_ends(_interval(weighted(row, values)))}
                        for size, row in zip(images, rest, strict=True)
                    ]}
                    | {"steps": steps, "flat_after": flat_after(steps)}
                )  # fmt: skip
    return fits


def contrasts(curves: Mapping[str, Sequence[Point]], compared: Mapping[str, str]) -> list[dict[str, Any]]:
    """The first method minus the second, paired by seed and query: their slopes, and their levels (means over the sizes).

    There are none of a curve where the methods have other sizes or other seeds.

    Raises:
        DataError: They were scored on other queries.
    """
    found: list[dict[str, Any]] = []
    if len(compared) != 2:
        return found
    for curve, points in curves.items():
        first, second = (_sizes(points, method) for method in compared)
        seeds = [{size: [p["seed"] for p in found] for size, found in of.items()} for of in (first, second)]
        if seeds[0] != seeds[1] or len(first) < 2:
            continue
        one, other = compared.values()
        weights = {"slope": slope_weights(list(first)), "level": np.full(len(first), 1 / len(first))}
        for name in (name for name in _sets(first, one) if name in _sets(second, other)):
            for way in WAYS:
                one_curve, other_curve = _curve(first, name, one, way), _curve(second, name, other, way)
                if one_curve.shape != other_curve.shape:
                    raise DataError(f"{' and '.join(compared)}: were scored on different queries of {name}")
                apart = one_curve - other_curve
                for what, row in weights.items():
                    interval = _interval(weighted(row, apart))
                    where = {"curve": curve, "set": name, "direction": way, "of": what}
                    found.append({**where, **_ends(interval), "claim": verdict(interval)})
    return found


# ---- weights of sizes


def slope_weights(images: ArrayLike) -> NDArray[np.float64]:
    """Weights of the scores at these sizes that make the least-squares slope over log10(images), (sizes,)."""
    x = np.log10(np.asarray(images, np.float64))
    if len(np.unique(x)) < 2:
        raise ValueError(f"a slope needs two sizes at the least, found {np.asarray(images).tolist()}")
    centred = x - x.mean()
    return np.asarray(centred / (centred**2).sum())


def residual_weights(images: ArrayLike) -> NDArray[np.float64]:
    """Weights that make what the line leaves over at each size, (sizes, sizes)."""
    x = np.log10(np.asarray(images, np.float64))
    count = len(x)
    return np.asarray(np.eye(count) - 1 / count - np.outer(x - x.mean(), slope_weights(images)))


def weighted(weights: ArrayLike, values: ArrayLike) -> NDArray[np.float64]:
    """Sums over the sizes: weights (sizes,) and values (sizes, seeds, queries) to (seeds, queries)."""
    return np.asarray(np.tensordot(np.asarray(weights), np.asarray(values), 1))


def flat_after(steps: Sequence[Mapping[str, Any]]) -> int | None:
    """The size after which no step up to the next is separated from zero; None if the last one still is.

    That is what these seeds and queries can tell: the upper ends of the steps beyond say how much may have been missed.
    """
    risen = [step["to"] for step in steps if step["claim"].startswith("higher")]
    if risen and risen[-1] == steps[-1]["to"]:
        return None
    return int(risen[-1] if risen else steps[0]["from"])


# ---- points


def _sizes(points: Sequence[Point], method: str) -> dict[int, list[Point]]:
    """Points of a method by images, small to large, each size by seed.

    Raises:
        DataError: Sizes have other seeds.
    """
    mine = sorted((p for p in points if p["method"] == method), key=lambda point: (point["images"], point["seed"]))
    sizes: dict[int, list[Point]] = {}
    for point in mine:
        sizes.setdefault(point["images"], []).append(point)
    seeds = {images: [point["seed"] for point in found] for images, found in sizes.items()}
    if any(found != next(iter(seeds.values())) for found in seeds.values()):
        raise DataError(f"{FOLDER}: sizes of {method} have other seeds: {seeds}; run `dvc repro {GRAPH}`")
    return sizes


def _sets(sizes: Mapping[int, Sequence[Point]], kind: str) -> list[str]:
    """Sets on which all points have a score."""
    items = [point["items"]["retrieval"] for points in sizes.values() for point in points]
    return [name for name in items[0] if all(kind in found.get(name, {}) for found in items)]


def _curve(sizes: Mapping[int, Sequence[Point]], name: str, kind: str, way: str) -> NDArray[np.float64]:
    hits = _hits([point for points in sizes.values() for point in points], name, kind, way)
    return hits.reshape(len(sizes), -1, hits.shape[1])  # all sizes have the same seeds


def _hits(points: Sequence[Point], name: str, kind: str, way: str) -> NDArray[np.float64]:
    """100 for each query that found its match, else 0, (points, queries).

    Raises:
        DataError: The points were scored on other queries.
    """
    hits = [point["items"]["retrieval"][name][kind][way] for point in points]
    if len(counts := {len(bits) for bits in hits}) > 1:
        method, numbers = points[0]["method"], " and ".join(f"{count:,}" for count in sorted(counts))
        raise DataError(f"{name}: points of {method} were scored on {numbers} queries; run the older ones again")
    return np.stack([100.0 * (np.frombuffer(bits.encode(), np.uint8) - ord("0")) for bits in hits])


def _interval(values: NDArray[np.float64], low: float = -np.inf, high: float = np.inf) -> Interval:
    if len(values) > 1:
        return over_both(values, low, high)
    found = over_items(values[0])
    assert found.low is not None and found.high is not None
    return Interval(found.value, max(low, found.low), min(high, found.high))


def _step(values: NDArray[np.float64]) -> dict[str, Any]:
    found = _interval(values)
    return {**_ends(found), "claim": verdict(found)}


def _ends(interval: Interval) -> dict[str, float | None]:
    shown = interval.rounded()
    return {key: shown[key] for key in ("value", "low", "high")}
