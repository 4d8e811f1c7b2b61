"""Evaluation sets that were not run, all in one place, with what to do to have them."""

from collections.abc import Mapping
from dataclasses import dataclass

from caft.eval.report.content import Report

_FILES = ("retrieval", "grounding", "regions")


@dataclass(frozen=True)
class Absent:
    """A set that was not run, why, and the address of its publisher's page."""

    name: str
    reason: str
    publisher: str | None


def absent_sets(report: Report) -> list[Absent]:
    """Returns the sets of the metrics files that were not run; the first region set has no name where it is flat."""
    found = []
    for file in _FILES:
        entries = report.metrics.get(file, {})
        if isinstance(entries.get("not_run"), str):
            entries = {next(iter(report.boxes), "the first set of regions"): entries} | dict(entries)
        for name, entry in entries.items():
            if isinstance(entry, Mapping) and "not_run" in entry:
                found.append(Absent(name, str(entry["not_run"]), report.origin.publishers.get(name)))
    return found
