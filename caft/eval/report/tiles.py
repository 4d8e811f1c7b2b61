"""The few scores of the first screen: of each measure the lowest and the highest, so that none stands for the others."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from caft.data.sets import REGION_FILES
from caft.eval.analysis.curves import Interval
from caft.eval.analysis.intervals import wilson
from caft.eval.report.content import Report


@dataclass(frozen=True)
class Score:
    """A score: its value, the set or the level of a set that it is of, and what it has to beat."""

    value: Interval | float
    name: str
    level: str

    @property
    def percent(self) -> float:
        """The value without its interval."""
        return self.value.value if isinstance(self.value, Interval) else self.value


@dataclass(frozen=True)
class Tile:
    """A measure: its name in words, the field's short one, and its lowest and highest score, or the only one."""

    what: str
    short: str
    scores: list[Score]
    count: int  # sets or levels that were scored


def tiles(report: Report) -> list[Tile]:
    """Up to four measures: retrieval by the whole score and by CAFT++, masks of expressions, descriptions of boxes."""
    found = [
        ("text finds its picture", "T2I R@1, whole score", list(_retrieval(report, lambda _: "whole"))),
        ("with sentences too", f"T2I R@1, CAFT++ {_weight(report)}", list(_retrieval(report, blend_of))),
        ("mask of a phrase", "referring mIoU", list(_masks(report))),
        ("text that fits a box", "region accuracy", list(_boxes(report))),
    ]
    return [Tile(what, short, _ends(scores), len(scores)) for what, short, scores in found if scores]


def blend_of(entry: Mapping[str, Any]) -> str | None:
    """The CAFT++ score of a set's entry that is shown first: of the least part weight, the paper's and the command's."""
    return min((key for key in entry if key.startswith("blend_") and entry[key]), default=None)


def chance(entry: Mapping[str, Any]) -> float:
    """R@1 of drawing an answer of a retrieval set without looking, in percent."""
    return 100 / int(entry.get("images", entry["pairs"]))


def little(percent: float) -> str:
    """Returns a level in words: with one decimal, or where that would be nothing, with two digits."""
    return f"{percent:.1f}" if percent >= 0.05 else f"{percent:.2g}"


def _weight(report: Report) -> str:
    blends = (blend_of(entry) for entry in report.metrics.get("retrieval", {}).values())
    return next((blend[6:] for blend in blends if blend), "")


def _ends(scores: list[Score]) -> list[Score]:
    """The lowest and the highest; one where there is no other, or none that differs."""
    low, high = min(scores, key=lambda score: score.percent), max(scores, key=lambda score: score.percent)
    return [low] if low is high else [low, high]


def _retrieval(report: Report, choose: Callable[[Mapping[str, Any]], str | None]) -> Iterator[Score]:
    for name, entry in report.metrics.get("retrieval", {}).items():
        if "whole" in entry and (score := choose(entry)):
            value = wilson(entry[score]["t2i_r1"], entry["pairs"])
            yield Score(value, name, f"chance {little(chance(entry))}")


def _masks(report: Report) -> Iterator[Score]:
    for name, entry in report.metrics.get("grounding", {}).items():
        if "miou" in entry:
            value = report.intervals.get(name, {}).get("miou", entry["miou"])
            yield Score(value, name, f"words ignored {entry['miou_all_foreground']:.1f}")


def _boxes(report: Report) -> Iterator[Score]:
    of_set = region_sets(report)
    for name, entry in of_set.items():
        boxes = report.boxes.get(name, {})
        for level in REGION_FILES:
            if (value := entry.get(level)) is not None:
                shown = wilson(value, boxes[level]) if boxes.get(level) else value
                yield Score(shown, f"{name} {level}" if len(of_set) > 1 else level, _chance(entry, level))


def _chance(entry: Mapping[str, Any], level: str) -> str:
    known = entry.get(f"{level}_chance")
    return "" if known is None else f"chance {known:.1f}"


def region_sets(report: Report) -> dict[str, Mapping[str, Any]]:
    """Entries of the region sets that were scored, by name; the first set is flat in the metrics file."""
    scores = report.metrics.get("regions", {})
    first = next(iter(report.boxes), "")
    others = {name: entry for name, entry in scores.items() if isinstance(entry, Mapping) and name != "without_leaked"}
    of_set = {first: scores} | others
    return {name: entry for name, entry in of_set.items() if "rows" in entry}
