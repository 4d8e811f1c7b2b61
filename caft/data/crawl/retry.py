"""Which lost rows are asked once more: those that failed for a passing reason, and those that a user asks for.

img2dataset only tries again at once, which is no use against a server that is busy or down for a while. Here rows are tried
after all others, in rounds of their own, and count where they were tried last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from caft.errors import DataError

OPT_OUT = "opt_out"
# Of 4xx, too many requests, and those that servers give when they were slow. Dead links stay dead.
PASSING = {"timeout", "unreachable", "cut_short", "http_408", "http_425", "http_429"}


def is_transient(cause: str) -> bool:
    """Whether a retry may succeed where the first try failed for this cause."""
    return cause in PASSING or cause.startswith("http_5")


def passing(lost: Iterable[str], counted: Path, tables: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """A query of the rows that were asked exactly once and failed for a passing reason.

    Args:
        lost: Causes of lost rows.
        counted: Table of the rows, as `count_rows` writes it.
        tables: Of all shards.

    Returns:
        The query, which gives row_id and url, and its parameters.
    """
    query = """
        SELECT c.row_id, c.url
        FROM (SELECT row_id, url FROM read_parquet($counted) WHERE list_contains($causes::VARCHAR[], cause)) c
        JOIN read_parquet($tables) t USING (url) GROUP BY ALL HAVING count(*) = 1
    """
    causes = sorted(filter(is_transient, lost))
    return query, {"counted": str(counted), "causes": causes, "tables": list(tables)}


def requested(lost: set[str], counted: Path, causes: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """A query of the rows that a user asks for, by the causes of their loss.

    Args:
        lost: Causes of lost rows.
        counted: Table of the rows, as `count_rows` writes it.
        causes: Empty for all but an owner's refusal.

    Returns:
        As `passing`.
    """
    wanted = sorted(causes or lost - {OPT_OUT})
    query = "SELECT row_id, url FROM read_parquet($counted) WHERE list_contains($causes::VARCHAR[], cause)"
    return query, {"counted": str(counted), "causes": wanted}


def check_causes(folder: Path, lost: set[str], causes: Sequence[str]) -> None:
    """Checks that rows are lost for each of some causes.

    Raises:
        DataError: One of the causes is that of no row, or an owner's refusal, which is not asked about again.
    """
    if wrong := [cause for cause in causes if cause == OPT_OUT or cause not in lost]:
        raise DataError(
            f"{folder}: no row to try again for {', '.join(wrong)}; rows are lost for {', '.join(sorted(lost)) or 'nothing'}"
            f"{f', of which {OPT_OUT} is not asked about again' if OPT_OUT in lost else ''}"
        )
