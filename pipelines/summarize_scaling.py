"""Stage summary of pipelines/scaling: R@1 against images trained on, and the slope of each method.

With `--experiments`, the paper's curve: the points of all data of whatever DVC experiments have run, as the corpora
one by one and merged.
"""

import argparse
import csv
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
from caft.eval.report.curves import scaling_page
from caft.params import Params
from pipelines.stage import run

FOLDER, HITS = Path("metrics/scaling"), Path("plots/scaling")
WAYS = ("i2t", "t2i")
COLUMNS = (
    "curve",
    "method",
    "corpora",
    "images",
    "samples",
    "set",
    "score",
    "compared",
    "direction",
    "r1",
    "low",
    "high",
)
Point = dict[str, Any]


def arguments_of_a_summary(parser: argparse.ArgumentParser) -> None:
    """Arguments beyond those of every stage."""
    parser.add_argument(
        "methods", nargs="+", metavar="METHOD=SCORE", help="methods, each with the score that the paper compares"
    )
    parser.add_argument("--experiments", action="store_true", help="the whole-data points of all DVC experiments")


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    compared = dict(method.split("=") for method in arguments.methods)
    curves = of_experiments(compared) if arguments.experiments else nested(compared)
    name = "scaling/paper" if arguments.experiments else "scaling"
    rows = [line for curve, points in curves.items() for point in points for line in lines(curve, point, compared)]
    fits = [fit for curve, points in curves.items() for fit in fitted(curve, points, compared)]
    summary = {"compared": compared, "fits": fits, "differences": differences(curves, compared)}
    with (
        storage.replacing(f"plots/{name}/points.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    storage.write_json(f"metrics/{name}.json", summary)
    storage.write_text(f"reports/{name}/index.html", scaling_page(summary, rows))
    for fit in fits:
        print(
            "{curve}, {method} {score}, {set} {direction}: {slope:.1f} points for ten times the images, "
            "{low:.1f} to {high:.1f}".format(**fit)
        )


def nested(compared: Mapping[str, str]) -> dict[str, list[Point]]:
    """Points of the nested subsets by curve; the one of all data is on both.

    Raises:
        DataError: A method has no points.
    """
    curves: dict[str, list[Point]] = {"equal samples": [], "equal epochs": []}
    for method in compared:
        paths = sorted(FOLDER.glob(f"{method}-*.json"))
        if not paths:
            raise DataError(f"{FOLDER}: no point of {method}; run `dvc repro pipelines/scaling/dvc.yaml`")
        for path in paths:
            point = storage.read_json(path, "pipelines/scaling/dvc.yaml") | {"method": method}
            point["hits"] = storage.read_json(HITS / path.name, "pipelines/scaling/dvc.yaml")
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
    """A line of the table for each set, score and direction of a point; intervals are over queries."""
    result = []
    for name, entry in point["scores"].items():
        for kind in (kind for kind, found in entry.items() if isinstance(found, Mapping)):
            for way in WAYS:
                r1 = entry[kind][f"{way}_r1"]
                line = {
                    "curve": curve,
                    "method": point["method"],
                    "corpora": "+".join(point["corpora"]),
                    "images": point["images"],
                    "samples": point["samples"],
                    "set": name,
                    "score": kind,
                    "compared": kind == compared[point["method"]],
                    "direction": way,
                    "r1": r1,
                }
                interval = over_queries(r1, bootstrap(_bits(point["hits"][name][kind][way]))).rounded()
                result.append(line | {"low": interval["low"], "high": interval["high"]})
    return result


def fitted(curve: str, points: Sequence[Point], compared: Mapping[str, str]) -> list[dict[str, Any]]:
    """Slope of each method, by the score that the paper compares, with the interval of queries drawn again."""
    fits = []
    for method, kind in compared.items():
        mine = [point for point in points if point["method"] == method]
        if len({point["images"] for point in mine}) < 2:
            continue
        images = [point["images"] for point in mine]
        for name in _sets(mine, kind):
            for way in WAYS:
                rise, start = slope(images, [point["scores"][name][kind][f"{way}_r1"] for point in mine])
                interval = over_queries(float(rise), _drawn(mine, name, kind, way)).rounded()
                fits.append(
                    {
                        "curve": curve,
                        "method": method,
                        "score": kind,
                        "set": name,
                        "direction": way,
                        "sizes": len(mine),
                        "slope": round(float(rise), 2),
                        "low": interval["low"],
                        "high": interval["high"],
                        "intercept": round(float(start), 2),
                    }
                )
    return fits


def differences(curves: Mapping[str, Sequence[Point]], compared: Mapping[str, str]) -> list[dict[str, Any]]:
    """Slope of the first method minus the second's, on the same draws of queries; whether zero is outside is computed."""
    found: list[dict[str, Any]] = []
    if len(compared) != 2:
        return found
    for curve, points in curves.items():
        first, second = ([point for point in points if point["method"] == method] for method in compared)
        if any(len({point["images"] for point in some}) < 2 for some in (first, second)):
            continue
        kinds = list(compared.values())
        for name in (name for name in _sets(first, kinds[0]) if name in _sets(second, kinds[1])):
            for way in WAYS:
                one, other = (_drawn(p, name, kind, way) for p, kind in zip((first, second), kinds, strict=True))
                values = [
                    slope([q["images"] for q in p], [q["scores"][name][kind][f"{way}_r1"] for q in p])[0]
                    for p, kind in zip((first, second), kinds, strict=True)
                ]
                interval = over_queries(float(values[0] - values[1]), one - other).rounded()
                low, high = interval["low"], interval["high"]
                assert low is not None and high is not None
                claim = "steeper" if low > 0 else "flatter" if high < 0 else "not separated"
                found.append({"curve": curve, "set": name, "direction": way, **interval, "claim": claim})
    return found


def _drawn(points: Sequence[Point], name: str, kind: str, way: str) -> NDArray[np.float64]:
    """Slopes of queries drawn again, (draws,)."""
    hits = np.stack([_bits(point["hits"][name][kind][way]) for point in points])
    return np.asarray(slope([point["images"] for point in points], bootstrap(hits))[..., 0])


def _sets(points: Sequence[Point], kind: str) -> list[str]:
    """Sets on which all points have a score."""
    return [name for name in points[0]["scores"] if all(kind in point["scores"].get(name, {}) for point in points)]


def _bits(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8) - ord("0")


if __name__ == "__main__":
    run(main, more=arguments_of_a_summary)
