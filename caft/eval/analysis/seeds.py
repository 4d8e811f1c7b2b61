"""Runs of other seeds: what a curve would have been with another random seed.

They are found by their cards beside the checkpoints: the tracker, which groups seeds too, may be another machine's.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Rows = list[dict[str, float]]


def curves_of_other_seeds(runs: Path, card: Mapping[str, Any]) -> dict[int, Rows]:
    """Returns the curves of finished runs that differ from a model's run in the seed alone.

    Args:
        runs: Folder of run folders; a run that ended has `final.json`, its card, beside `metrics.jsonl`.
        card: Of the model.

    Returns:
        Rows by seed, numbers only; of several runs with one seed (of older code), the last that ended.
    """
    found: dict[int, Rows] = {}
    for path in sorted(runs.glob("*/final.json"), key=lambda path: path.stat().st_mtime):
        other = json.loads(path.read_text())
        curves = path.with_name("metrics.jsonl")
        if other.get("seed") != card.get("seed") and _without_seed(other) == _without_seed(card) and curves.is_file():
            found[other["seed"]] = [
                {key: float(value) for key, value in row.items() if _is_number(value)} for row in read_rows(curves)
            ]
    return dict(sorted(found.items()))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a run's metrics.jsonl; a line that a killed run began and did not end is left out."""
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def _without_seed(card: Mapping[str, Any]) -> dict[str, Any]:
    """What two runs that differ in the seed alone have in common; the fingerprint holds the seed."""
    return {key: card.get(key) for key in ("model", "recipe", "data", "subset")}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
