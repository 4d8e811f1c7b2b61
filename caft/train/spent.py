"""What a run took, from what its job wrote down: one speed for all places that state it, and the stops beside it."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from caft.train.follow import Tail
from caft.train.speed import STOPS

# What was expected before the run, if it was; `caft.train.plan` writes it.
PREDICTED = "predicted.json"
logger = logging.getLogger(__name__)
_KINDS = ("start", "validation", "checkpoint")


def spent(folder: Path) -> dict[str, Any]:
    """Speed and cost of the run in a folder, over all its starts.

    Returns:
        `images_per_s`, samples over the time of their steps, and `data_wait_share` of that time; and `cost`, with seconds
        of the steps and of the stops of each kind, `starts`, `steps_again` (at least so many were done twice), the
        machine, `mfu` of its `peak_tflops`, memory, recompilations, `joules_per_image` of the steps, `kwh` of steps and
        stops, and what was `predicted`. What was not measured is absent.
    """
    rows = [row for row in Tail(folder / "metrics.jsonl").new() if "step_seconds" in row]
    stops = list(_stops(folder / STOPS))
    cost: dict[str, Any] = {f"{kind}_seconds": _sum(stops, "seconds", kind) for kind in _KINDS}
    starts = [line for line in stops if line["kind"] == "start"]
    cost |= {"starts": len(starts), "steps_again": int(_sum(starts, "again"))}
    if starts:
        cost |= {key: starts[-1][key] for key in ("device", "ranks", "peak_tflops", "energy") if key in starts[-1]}
    found: dict[str, Any] = {"cost": cost}
    if rows:
        found |= _of_steps(rows, stops, cost)
    if (path := folder / PREDICTED).is_file():
        cost["predicted"] = json.loads(path.read_text())
    return found


def _stops(path: Path) -> Iterator[dict[str, Any]]:
    """Lines of all starts; without those that a machine which went down left half written."""
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            stop = json.loads(line)
            if stop["kind"] in _KINDS:
                yield stop
        except (ValueError, KeyError, TypeError):
            logger.warning("%s: a line of a stop is not whole; its seconds are not counted", path)


def _of_steps(
    rows: Sequence[Mapping[str, float]], stops: Sequence[Mapping[str, Any]], cost: dict[str, Any]
) -> dict[str, Any]:
    """Speed and share of waiting; the rest goes into `cost`."""
    seconds = _sum(rows, "step_seconds")
    images = sum(row["images_per_s"] * row["step_seconds"] for row in rows)
    cost["step_seconds"] = round(seconds, 3)
    for key, digits in (("tflops", 4), ("mfu", 4), ("padded_token_share", 4)):
        if all(key in row for row in rows):
            cost[key] = round(_mean(rows, key), digits)
    cost["peak_memory_mib"] = round(max(row["peak_memory_mib"] for row in rows))
    if all("recompilations" in row for row in rows):
        cost["recompilations"] = int(_sum(rows, "recompilations"))
    if all("joules" in row for row in rows):
        joules = _sum(rows, "joules")
        cost["joules_per_image"] = round(joules / images, 4)
        if all("joules" in line for line in stops):
            cost["kwh"] = round((joules + _sum(stops, "joules")) / 3.6e6, 6)
    return {
        "images_per_s": round(images / seconds, 1),
        "data_wait_share": round(_mean(rows, "data_wait_share"), 4),
    }


def _mean(rows: Iterable[Mapping[str, float]], key: str) -> float:
    """Mean over the time of the steps."""
    weighted = [(row[key] * row["step_seconds"], row["step_seconds"]) for row in rows]
    return sum(value for value, _ in weighted) / sum(seconds for _, seconds in weighted)


def _sum(rows: Iterable[Mapping[str, Any]], key: str, kind: str | None = None) -> float:
    return round(sum(row.get(key, 0) for row in rows if kind is None or row["kind"] == kind), 3)
