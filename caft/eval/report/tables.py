"""Rows of a table of scores, and which of its columns are worth their room."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from caft.eval.analysis.curves import Interval

CHANCE = "control chance"  # kind of a row that no skill is needed for; it keeps no column


@dataclass(frozen=True)
class Row:
    """A line of a table; kinds are those of templates/macros.html."""

    values: Sequence[Any]  # one a column, the first being its name; or a single one: a title over all columns
    kind: str = ""

    @property
    def is_title(self) -> bool:
        """Whether it stands over all columns."""
        return len(self.values) == 1


@dataclass(frozen=True)
class Folded:
    """A table without the columns that are 100 in every row, and their names."""

    header: list[str]
    rows: list[Row]
    full: list[str]


def by_level(score: str) -> tuple[bool, bool, str]:
    """Key that sorts names of scores, which a file has by letter: whole, part, then the blends."""
    return score.startswith("blend_"), score == "part", score


def fold(header: Sequence[str], rows: Sequence[Row]) -> Folded:
    """Leaves out the columns that are 100 in every row but those of chance, and names them."""
    full = {column for column in range(1, len(header)) if _is_full(list(_scores(rows, column)))}
    kept = [column for column in range(len(header)) if column not in full]
    lines = [row if row.is_title else Row([row.values[column] for column in kept], row.kind) for row in rows]
    return Folded([header[column] for column in kept], lines, [header[column] for column in sorted(full)])


def _scores(rows: Sequence[Row], column: int) -> Iterator[float]:
    for row in rows:
        value = None if row.is_title or row.kind == CHANCE else row.values[column]
        value = value.value if isinstance(value, Interval) else value
        if isinstance(value, float):
            yield value


def _is_full(scores: Sequence[float]) -> bool:
    return bool(scores) and all(round(score, 2) == 100 for score in scores)
