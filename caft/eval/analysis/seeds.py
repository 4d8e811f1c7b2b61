"""Runs of other seeds: what a curve would have been with other luck."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

Rows = list[dict[str, float]]


def curves_of_other_seeds(runs: Path, card: Mapping[str, Any]) -> dict[int, Rows]:
    """Returns the curves of finished runs that differ from a model's run in the seed alone.

    Args:
        runs: Folder of run folders; a run that ended has `final.json`, its card, beside `metrics.jsonl`.
        card: Of the model.

    Returns:
        Rows by seed, numbers only; of several runs with one seed (of older code), the last that ended.
    """
    found: dict[int, tuple[float, Rows]] = {}
    for path in sorted(runs.glob("*/final.json")):
        other = json.loads(path.read_text())
        curves = path.with_name("metrics.jsonl")
        if other.get("seed") == card.get("seed") or _without_seed(other) != _without_seed(card) or not curves.is_file():
            continue
        ended = path.stat().st_mtime
        if ended > found.get(other["seed"], (0.0,))[0]:
            rows = [json.loads(line) for line in curves.read_text().splitlines() if line.endswith("}")]
            numbers = [{key: float(value) for key, value in row.items() if _is_number(value)} for row in rows]
            found[other["seed"]] = (ended, numbers)
    return {seed: rows for seed, (_, rows) in sorted(found.items())}


def _without_seed(card: Mapping[str, Any]) -> dict[str, Any]:
    """What makes two runs the same but for luck; the fingerprint holds the seed."""
    return {key: card.get(key) for key in ("model", "recipe", "data", "subset")}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
