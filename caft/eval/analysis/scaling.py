"""R@1 against images trained on: points, the slope of each method over the logarithm, and the difference of slopes."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caft import storage
from caft.errors import DataError
from caft.eval.analysis.curves import bootstrap, over_queries, slope

GRAPH = "pipelines/scaling/dvc.yaml"
FOLDER, HITS = Path("metrics/scaling"), Path("plots/scaling")
WAYS = ("i2t", "t2i")
COLUMNS = (
    *("curve", "method", "corpora", "images", "samples"),
    *("set", "score", "compared", "direction", "r1", "low", "high"),
)
Point = dict[str, Any]


def summarize(
    curves: Mapping[str, Sequence[Point]], compared: Mapping[str, str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the content of metrics/scaling.json, and the rows of points.csv.

    Points are by curve; `compared` is the score of each method that the paper compares.
    """
    rows = [line for curve, points in curves.items() for point in points for line in lines(curve, point, compared)]
    fits = [fit for curve, points in curves.items() for fit in fitted(curve, points, compared)]
    return {"compared": compared, "fits": fits, "differences": differences(curves, compared)}, rows


def nested(compared: Mapping[str, str]) -> dict[str, list[Point]]:
    """Points of the nested subsets by curve; the one of all data is on both.

    Raises:
        DataError: A method has no points.
    """
    curves: dict[str, list[Point]] = {"equal samples": [], "equal epochs": []}
    for method in compared:
        paths = sorted(FOLDER.glob(f"{method}-*.json"))
        if not paths:
            raise DataError(f"{FOLDER}: no point of {method}; run `dvc repro {GRAPH}`")
        for path in paths:
            point = storage.read_json(path, GRAPH) | {"method": method}
            point["hits"] = storage.read_json(HITS / path.name, GRAPH)
            kind = path.stem.removeprefix(f"{method}-").split("-")[0]
            for curve in curves if kind == "all" else [f"equal {kind}"]:
                curves[curve].append(point)
    return {
        curve: sorted(points, key=lambda point: (point["method"], point["images"])) for curve, points in curves.items()
    }


def of_experiments(compared: Mapping[str, str]) -> dict[str, list[Point]]:
    """Points of all data in the commits of DVC's experiments, the newest of equal ones.

    Raises:
        DataError: No experiment has one.
    """
    refs = _git("for-each-ref", "--sort=creatordate", "--format=%(objectname)", "refs/exps/").split()
    found: dict[tuple[str, ...], Point] = {}
    for commit in refs:
        for method in compared:
            try:
                point, hits = (
                    json.loads(_git("show", f"{commit}:{folder}/{method}-all.json")) for folder in (FOLDER, HITS)
                )
            except subprocess.CalledProcessError:
                continue  # an experiment of another graph
            found[(method, *point["corpora"])] = point | {"method": method, "hits": hits}
    if not found:
        raise DataError(
            "no DVC experiment has a point of pipelines/scaling; docs/curves.md has the command that queues them"
        )
    return {"paper": sorted(found.values(), key=lambda point: (point["method"], point["images"]))}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def lines(curve: str, point: Point, compared: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows of points.csv, one for each set, score and direction of a point; intervals are bootstraps of the queries."""
    facts = {key: point[key] for key in ("method", "images", "samples")}
    facts |= {"curve": curve, "corpora": "+".join(point["corpora"])}
    result = []
    for name, entry in point["scores"].items():
        for kind in (kind for kind, found in entry.items() if isinstance(found, Mapping)):
            for way in WAYS:
                r1 = entry[kind][f"{way}_r1"]
                interval = over_queries(r1, bootstrap(_bits(point, name, kind, way))).rounded()
                where = {"set": name, "score": kind, "compared": kind == compared[point["method"]], "direction": way}
                result.append({**facts, **where, "r1": r1, "low": interval["low"], "high": interval["high"]})
    return result


def fitted(curve: str, points: Sequence[Point], compared: Mapping[str, str]) -> list[dict[str, Any]]:
    """Slope of each method, by the score that the paper compares, with its bootstrap interval over the queries."""
    fits = []
    for method, kind in compared.items():
        mine = [point for point in points if point["method"] == method]
        if not _several_sizes(mine):
            continue
        for name in _sets(mine, kind):
            for way in WAYS:
                (rise, start), drawn = _slopes(mine, name, kind, way)
                interval = over_queries(rise, drawn).rounded()
                fits.append(
                    {
                        **{"curve": curve, "method": method, "score": kind, "set": name, "direction": way},
                        **{"sizes": len(mine), "slope": interval["value"]},
                        **{"low": interval["low"], "high": interval["high"], "intercept": round(start, 2)},
                    }
                )
    return fits


def differences(curves: Mapping[str, Sequence[Point]], compared: Mapping[str, str]) -> list[dict[str, Any]]:
    """Slope of the first method minus the second's, on the same bootstrap samples, and whether zero lies outside."""
    found: list[dict[str, Any]] = []
    if len(compared) != 2:
        return found
    for curve, points in curves.items():
        pair = [([point for point in points if point["method"] == method], kind) for method, kind in compared.items()]
        if not all(_several_sizes(mine) for mine, _ in pair):
            continue
        first, second = (_sets(mine, kind) for mine, kind in pair)
        for name in (name for name in first if name in second):
            for way in WAYS:
                (one, drawn), (other, others) = (_slopes(mine, name, kind, way) for mine, kind in pair)
                interval = over_queries(one[0] - other[0], drawn - others)
                shown = interval.rounded()
                low, high = shown["low"] or 0.0, shown["high"] or 0.0
                claim = "steeper" if low > 0 else "flatter" if high < 0 else "not separated"
                found.append({"curve": curve, "set": name, "direction": way, **shown, "claim": claim})
    return found


def _slopes(points: Sequence[Point], name: str, kind: str, way: str) -> tuple[tuple[float, float], NDArray[np.float64]]:
    """Slope and intercept of the points, and the slopes of the bootstrap samples, (draws,)."""
    images = [point["images"] for point in points]
    rise, start = slope(images, [point["scores"][name][kind][f"{way}_r1"] for point in points]).tolist()
    hits = np.stack([_bits(point, name, kind, way) for point in points])
    return (rise, start), slope(images, bootstrap(hits))[..., 0]


def _several_sizes(points: Sequence[Point]) -> bool:
    return len({point["images"] for point in points}) > 1


def _sets(points: Sequence[Point], kind: str) -> list[str]:
    """Sets on which all points have a score."""
    return [name for name in points[0]["scores"] if all(kind in point["scores"].get(name, {}) for point in points)]


def _bits(point: Point, name: str, kind: str, way: str) -> NDArray[np.uint8]:
    """1 for each query that found its match, else 0, (queries,)."""
    return np.frombuffer(point["hits"][name][kind][way].encode(), np.uint8) - ord("0")
