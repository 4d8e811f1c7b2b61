"""Values of the table of look-alikes: how well each score tells a group's pairs apart, by what these differ in."""

from collections.abc import Mapping
from typing import Any

from caft.eval.analysis.curves import Interval
from caft.eval.report.tables import Folded, Row, by_level
from caft.eval.scores.kinds import WAYS


def look_alikes(name: str, entry: Mapping[str, Any]) -> Folded:
    """A set's entry of retrieval.json as a line for each kind; no lines where it has no groups."""
    kinds: Mapping[str, Any] = entry.get("by_kind", {})
    scores = [key for key, ways in next(iter(kinds.values()), {}).items() if isinstance(ways, Mapping)]
    scores.sort(key=by_level)
    labels = [score.replace("blend_", "CAFT++ ") for score in scores]
    header = [
        f"{name}, pairs that differ in",
        *(f"{way[:3].upper()}, {label}" for label in labels for way in WAYS[::-1]),
    ]
    rows = []
    for kind, found in kinds.items():
        values = [Interval(**found[score][way]) for score in scores for way in WAYS[::-1]]
        rows.append(Row([kind, *values, found["chance"], found["queries"], found["groups"]]))
    return Folded([*header, "chance", "pairs", "groups"], rows, [])
