"""Sigmoid against softmax over batches: the paired difference at each batch, and how it changes from small to large."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caft.errors import DataError
from caft.eval.analysis.crossed import over_both, verdict
from caft.eval.analysis.paired import Point, differences, items_of, means, read_points

GRAPH = "pipelines/batches/dvc.yaml"
FOLDER, ITEMS = Path("metrics/batches"), Path("plots/batches")
FORMS = ("sigmoid", "softmax")
_COMPARED = "whole"


def read(batches: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    """Points by FORM-BATCH.

    Raises:
        DataError: There are none of a form at a batch.
    """
    names = [f"{form}-{batch}" for form in FORMS for batch in batches]
    return {name: read_points(name, FOLDER, ITEMS, GRAPH) for name in names}


def summarize(runs: Mapping[str, Sequence[Point]], batches: Sequence[int]) -> dict[str, Any]:
    """Sigmoid minus softmax by batch, and that at the smallest batch minus that at the largest (`gaps`).

    Raises:
        DataError: Runs have no seed in common.
    """
    compared = dict.fromkeys(runs, _COMPARED)
    found = [
        {"batch": batch, **line}
        for batch in batches
        for line in differences(runs, compared, *(f"{form}-{batch}" for form in FORMS))
    ]
    ends = [f"{form}-{batch}" for batch in (min(batches), max(batches)) for form in FORMS]
    seeds = set.intersection(*({point["seed"] for point in runs[name]} for name in ends))
    if not seeds:
        raise DataError(f"{', '.join(ends)}: have no seed in common; run `dvc repro {GRAPH}`")
    small, small_other, large, large_other = (
        items_of([point for point in runs[name] if point["seed"] in seeds]) for name in ends
    )
    gaps: list[dict[str, Any]] = []
    for (name, score, way), values in small.items():
        where = name, score, way
        interval = over_both(values - small_other[where] - large[where] + large_other[where])
        kind: dict[str, Any] = {"set": name, "score": score, "direction": way, "seeds": len(seeds)}
        gaps.append({**kind, **interval.rounded(), "claim": verdict(interval)})
    scores = {name: means(items_of(points))[0] for name, points in runs.items()}
    return {"batches": list(batches), "scores": scores, "differences": found, "gaps": gaps}
