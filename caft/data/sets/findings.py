"""What is wrong in an evaluation set: found while it is read, refused in one message, or left out and counted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from caft.errors import DataError
from caft.params.sets import BenchmarkParams

# Of a message, so that it has ten lines at most; `python -m pipelines.sets --check` shows more.
_COUNTS, _COUNTS_AND_KINDS, _OF_A_KIND, _LETTERS = 2, 7, 5, 100


class BadItem(NamedTuple):
    """An item of a set that cannot be scored."""

    kind: str  # in the plural: "images not there"
    where: str  # what the set's files call it
    why: str = ""  # what was found, where the kind does not say it

    def __str__(self) -> str:
        return f"{self.where}: {self.why}" if self.why else self.where


@dataclass(frozen=True)
class LeftOut:
    """What of a set is not scored although it is there, or is taken otherwise than it is written.

    Attributes:
        items: Bad items, which a partial set goes without.
        skipped_objects: Objects that no expression means and that have no mask; they are missing among the controls.
        turned: Pictures whose recorded size fits only once they are upright.
    """

    items: Sequence[BadItem] = ()
    skipped_objects: int = 0
    turned: int = 0

    def record(self) -> dict[str, int | list[str]]:
        """What a metrics file says of it: `dropped`, `dropped_items` in words, `skipped_objects`, `turned`; no zeros."""
        found = {"dropped": len(self.items), "skipped_objects": self.skipped_objects, "turned": self.turned}
        counts: dict[str, int | list[str]] = {key: count for key, count in found.items() if count}
        return counts | ({"dropped_items": summary(self.items)} if self.items else {})


class BadItemsError(DataError):
    """A set has items that cannot be scored, or other counts than its publisher's."""

    def __init__(self, message: str, items: Sequence[BadItem], counts: Sequence[str]) -> None:
        super().__init__(message)
        self.items, self.counts = items, counts


@dataclass
class Findings:
    """Collects what is wrong in a set while it is read."""

    folder: Path
    benchmark: BenchmarkParams
    items: list[BadItem] = field(default_factory=list)
    counts: list[str] = field(default_factory=list)
    skipped_objects: int = 0
    turned: set[Path] = field(default_factory=set)

    def bad(self, kind: str, where: object, why: str = "") -> None:
        """Notes an item that cannot be scored."""
        self.items.append(BadItem(kind, _line(where), _line(why)))

    def count(self, found: int, expected: int | None, key: str, file: Path | None = None) -> None:
        """Compares a count of what can be scored with the publisher's; a partial set may have fewer."""
        what = key.split(".")[0]
        if not found:
            self.counts.append(f"{file or self.folder}: expected {what}, found none")
        elif expected is not None and found != expected and not (found < expected and self._explained):
            of = f"(the benchmark's key {key})"
            more = "; take the publisher's files and split" if found > expected else ""
            self.counts.append(f"{file or self.folder}: expected {expected} {what} {of}, found {found}{more}")

    @property
    def _explained(self) -> bool:
        """Fewer than expected are no error of their own."""
        return self.benchmark.partial or bool(self.items)

    def settle(self) -> LeftOut:
        """What is left out of the set.

        Raises:
            BadItemsError: Items are bad and the set may not be partial, or counts are wrong.
        """
        if self.counts or (self.items and not self.benchmark.partial):
            raise BadItemsError(self._message(), self.items, self.counts)
        return LeftOut(tuple(self.items), self.skipped_objects, len(self.turned))

    def _message(self) -> str:
        lines = list(self.counts[:_COUNTS])
        if (more := len(self.counts) - _COUNTS) > 0:
            lines[-1] += f"; and {more} other counts"
        if self.items:
            what = "1 item" if len(self.items) == 1 else f"{len(self.items)} items"
            lines.append(f"{self.folder}: {what} cannot be scored")
            kinds, room = list(by_kind(self.items).items()), _COUNTS_AND_KINDS - len(self.counts[:_COUNTS])
            shown = len(kinds) if len(kinds) <= room else room - 1
            lines += [f"  {line}" for line in summary(self.items)[:shown]]
            if others := kinds[shown:]:
                lines.append(f"  {'; '.join(f'{kind}: {len(found)}' for kind, found in others)}")
        if not self.benchmark.partial:
            lines.append(
                "take the publisher's files, or score what is there as partial data with `partial: true` in the "
                "benchmark's entry; `python -m pipelines.sets --check` lists all, or move the folder away to leave it out"
            )
        return "\n".join(lines)


def _line(text: object) -> str:
    """A text as a part of a line that can be printed."""
    return " ".join(str(text).split())[:_LETTERS].encode(errors="replace").decode()


def by_kind(items: Iterable[BadItem]) -> Mapping[str, list[BadItem]]:
    """Items by their kind, in the order of the first of each."""
    found: dict[str, list[BadItem]] = {}
    for item in items:
        found.setdefault(item.kind, []).append(item)
    return found


def summary(items: Iterable[BadItem], shown: int = _OF_A_KIND) -> list[str]:
    """A line for each kind: how many, and which are the first."""
    lines = []
    for kind, found in by_kind(items).items():
        more = f", and {len(found) - shown} more" if len(found) > shown else ""
        lines.append(f"{kind}: {len(found)} ({'; '.join(map(str, found[:shown]))}{more})")
    return lines
