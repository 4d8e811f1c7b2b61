"""Values of the section with the scores of the metrics files, and the few numbers at the top of the page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from caft.data.sets import REGION_FILES
from caft.eval.report.charts import Chart, Series, line_chart
from caft.eval.report.content import Report


def results(report: Report) -> dict[str, Any]:
    """Values of results.html."""
    retrieval, grounding = (report.metrics.get(name, {}) for name in ("retrieval", "grounding"))
    retrieved = {name: entry for name, entry in retrieval.items() if "whole" in entry}
    return {
        "metrics": report.metrics,
        "notes": report.notes,
        "retrieved": retrieved,
        "classified": {name: entry for name, entry in retrieval.items() if "top1" in entry},
        "referring": {name: entry for name, entry in grounding.items() if "not_run" not in entry},
        "regions": _regions(report.metrics.get("regions", {})),
        "blends": [chart for name in retrieved if (chart := _blend_chart(report, name))],
        "levels": list(REGION_FILES),
        "modes": _modes,
        "chances": lambda entry: [min(100.0, 100 * k / _images(entry)) for k in (1, 5, 10)],
        "of_levels": lambda entry, kind="": [entry[level + kind] for level in REGION_FILES],
    }


def _images(entry: Mapping[str, Any]) -> int:
    return int(entry.get("images", entry["pairs"]))


def _modes(entry: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """Recalls by the name of the score; null ones (no part level, or only approximate blends) are left out."""
    blends = sorted(key for key in entry if key.startswith("blend_"))
    approximate = sorted(key for key in entry if key.startswith("approximate_"))
    labels = {mode: f"{mode.replace('_', ' ')} score" for mode in ("whole", "part", *blends, *approximate)}
    labels |= {blend: f"CAFT++, part weight {blend[6:]}" for blend in blends}
    return {label: entry[mode] for mode, label in labels.items() if entry[mode] is not None}


def _regions(scores: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Entries by set; the first set of the settings is flat in the file and has no name here."""
    of_set = {"": scores} | {name: entry for name, entry in scores.items() if isinstance(entry, Mapping)}
    return {name: entry for name, entry in of_set.items() if "rows" in entry or "not_run" in entry}


def _blend_chart(report: Report, name: str) -> Chart | None:
    lines = []
    for colour, key in enumerate(("i2t_r1", "t2i_r1")):
        for space in ("logit", "cosine"):
            chosen = [row for row in report.blend if row["set"] == name and row["space"] == space]
            points = [(row["weight"], row[key]) for row in chosen]
            lines.append(Series(f"{key[:3].upper()}, {space}s mixed", points, colour, dashed=space == "cosine"))
    return line_chart(f"R@1 by part weight, {name}", lines, "weight of the part score", "percent", from_zero=True)


@dataclass(frozen=True)
class Tile:
    """A number to remember: its value, what it is, and what it has to beat."""

    value: float
    what: str
    level: str


def tiles(report: Report) -> list[Tile]:
    """The first retrieval set's, the first referring set's and the first regions' scores."""
    found = []
    for name, entry in report.metrics.get("retrieval", {}).items():
        if "whole" in entry:
            level = f"chance {100 / _images(entry):.1f}"
            found.append(Tile(entry["whole"]["t2i_r1"], f"T2I R@1, whole score, {name}", level))
            # A model without a part level has null for its blends.
            blends = {key: entry[key]["t2i_r1"] for key in entry if key.startswith("blend_") and entry[key]}
            if blends:
                best = max(blends, key=lambda key: blends[key])
                found.append(Tile(blends[best], f"T2I R@1, CAFT++ {best[6:]}, {name}", level))
            break
    for name, entry in report.metrics.get("grounding", {}).items():
        if "miou" in entry:
            level = f"all objects, words ignored: {entry['miou_all_foreground']:.1f}"
            found.append(Tile(entry["miou"], f"referring mIoU, {name}", level))
            break
    regions = report.metrics.get("regions", {})
    if "easy" in regions:
        found.append(Tile(regions["easy"], "region accuracy, easy", f"chance {regions['easy_chance']:.1f}"))
    return found
