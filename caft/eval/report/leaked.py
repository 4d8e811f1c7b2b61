"""Evaluation images that were trained on, in words, and the scores without them."""

from collections.abc import Iterator, Mapping
from typing import Any

from caft.eval.leaked import UNKNOWN
from caft.eval.report.content import Report
from caft.eval.report.tables import Row
from caft.eval.report.tiles import region_sets


def leaked_words(report: Report) -> str:
    """What is known of the sets that were scored: no image, which images, or nothing; empty where no file says it."""
    counts: dict[str, int | str] = {}
    for entries in (report.metrics.get("retrieval", {}), report.metrics.get("grounding", {}), region_sets(report)):
        counts |= {
            name or "regions": entry["leaked_images"] for name, entry in entries.items() if "leaked_images" in entry
        }
    unknown = [name for name, count in counts.items() if count == UNKNOWN]
    some = {name: count for name, count in counts.items() if count not in (UNKNOWN, 0)}
    words = []
    if some:
        words.append(
            f"Evaluation images that were trained on: {', '.join(f'{name} {count:,}' for name, count in some.items())}. "
            "Scores of these sets stand twice, as published and without these images."
        )
    if len(counts) > len(some) + len(unknown):
        sets = "the other sets" if some or unknown else "these sets"
        words.append(f"No image of {sets} looks like one that was trained on, so that their scores stand once.")
    if unknown:
        of = "" if len(unknown) == len(counts) else f" of {', '.join(unknown)}"
        words.append(
            f"Which evaluation images{of} were trained on is unknown, and scores without them cannot be given."
        )
    return " ".join(words)


def without_leaked(name: str, entry: Mapping[str, Any], items: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields a title and the scores of a set without the images that were trained on, if it has some and others.

    `items` is the key of what is counted in the title: `pairs`, `expressions`, `rows` or `images`.
    """
    if rest := entry.get("without_leaked"):
        words = "boxes" if items == "rows" else items
        yield f"{name} without {_trained_on(entry)}: {rest[items]:,} {words}", rest


def nothing_left(entry: Mapping[str, Any]) -> Iterator[Row]:
    """Yields a line where all images of a set were trained on."""
    if entry.get("without_leaked", entry) is None:
        yield Row([f"without {_trained_on(entry)} nothing is left"], "control")


def _trained_on(entry: Mapping[str, Any]) -> str:
    count = entry["leaked_images"]
    return "the image that was trained on" if count == 1 else f"the {count:,} images that were trained on"
