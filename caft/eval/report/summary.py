"""One line for each evaluation set, beside the level that needs no skill; scores.py has the whole tables."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from caft.eval.analysis.intervals import wilson
from caft.eval.report.content import Report
from caft.eval.report.page import breakable
from caft.eval.report.tables import Folded, Row
from caft.eval.report.tiles import blend_of, chance, little

_MASKS = ("miou", "miou_wrong_expression", "miou_all_foreground", "overall_iou", "pointing")


def short_retrieval(retrieved: Mapping[str, Mapping[str, Any]]) -> Folded:
    """R@1 of the whole score and, where a model has one, of CAFT++."""
    blends = {name: blend_of(entry) for name, entry in retrieved.items()}
    weight = next((blend[6:] for blend in blends.values() if blend), None)
    header = ["R@1 of", "T2I, whole", "I2T, whole"]
    header += [f"T2I, CAFT++ {weight}", f"I2T, CAFT++ {weight}"] if weight else []
    rows = []
    for name, entry in retrieved.items():
        queries = {"t2i_r1": int(entry["pairs"]), "i2t_r1": int(entry.get("images", entry["pairs"]))}
        values: list[Any] = [_named(name, entry)]
        for score in ("whole", blends[name]) if weight else ("whole",):
            values += [wilson(entry[score][key], count) if score else None for key, count in queries.items()]
        rows.append(Row([*values, little(chance(entry))]))
    return Folded([*header, "chance"], rows, [])


def short_referring(report: Report) -> Folded:
    """Masks with the controls that ignore the words."""
    rows = []
    for name, entry in report.metrics.get("grounding", {}).items():
        if "miou" in entry:
            known = report.intervals.get(name, {})
            rows.append(Row([_named(name, entry), *(known.get(key, entry[key]) for key in _MASKS)]))
    header = ["masks of", "mIoU", "wrong expression", "all objects", "overall IoU", "pointing"]
    return Folded(header, rows, [])


def _named(name: str, entry: Mapping[str, Any]) -> Markup:
    """A set's name, marked where the entry is not of all that its publisher counts."""
    return breakable(f"{name}, partial data" if any(key.startswith("expected_") for key in entry) else name)
