"""One picture under many addresses: what hosts answer in the place of what is gone, or copies in several corpora."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from caft.data.tables.database import bounded


def dropped_above(rule: str) -> float:
    """Of `data.repeated_images`: above how many images of one picture all of them are left out; infinity for `keep`."""
    return math.inf if rule == "keep" else int(rule.removeprefix("drop_above "))


def repeated_pictures(
    tables: Sequence[Path], above: int, work: Path, memory_gb: int, condition: str = "true"
) -> dict[str, int]:
    """Pictures that more than `above` rows of some tables have, by the SHA-256 of what came, with the number of rows.

    Args:
        tables: Parquet, with a column download_sha256.
        above: 1 gives all that are there twice.
        work: Where the query may put what exceeds its memory.
        memory_gb: What it may hold.
        condition: SQL that says which rows count.

    Returns:
        By SHA-256, the most frequent first.
    """
    if not tables:
        return {}
    with bounded(work, memory_gb) as database:
        rows = database.execute(
            f"SELECT download_sha256, count(*) AS n FROM read_parquet($tables) WHERE download_sha256 <> '' AND {condition} "
            "GROUP BY download_sha256 HAVING n > $above ORDER BY n DESC, download_sha256",
            {"tables": [str(table) for table in tables], "above": above},
        ).fetchall()
    return dict(rows)
