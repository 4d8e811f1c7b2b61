"""Checks one shard that img2dataset has written, and brings its tar into canonical form.

img2dataset's own report is not trusted: a shard counts only if its table has exactly the rows that
were asked for, its tar opens, and the images in it are exactly the successes of the table.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from caft.data.crawl.causes import cause_of
from caft.data.crawl.manifest import Shard, note_shard, rows_fingerprint, shard_files
from caft.data.crawl.tars import canonicalise, members
from caft.digests import file_digest
from caft.errors import DataError

SUCCESS = "success"
COLUMNS = ["row_id", "url", "key", "status", "error_message", "sha256"]

NO_ANSWER = ("timeout", "unreachable")
# In a smaller shard, which the last one may be, most addresses may be dead by chance.
FEWEST_ROWS = 20


def stats_are_written(folder: Path, name: str) -> bool:
    """Returns whether img2dataset has committed a shard: its statistics, which come last, are whole."""
    try:
        json.loads(shard_files(folder, name)[2].read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    return True


def settle(folder: Path, name: str, asked: pa.Table, minimum_yield: float = 0.0) -> Shard:
    """Checks a committed shard, rewrites its tar in canonical form and notes what it holds.

    Args:
        folder: Folder of the shards.
        name: Name of the shard.
        asked: The rows that make up this shard: row_id, url.
        minimum_yield: Least share of the rows that must have been answered at all. Addresses are spread over the shards
            by their hashes, so a shard with fewer tells of a network or server that was down, not of dead links.

    Returns:
        The shard's entry in the manifest.

    Raises:
        DataError: The shard's files do not add up, or too few of its addresses answered; it must be fetched again.
    """
    tar, table_path, stats_path = shard_files(folder, name)
    try:
        stats = json.loads(stats_path.read_text())
        table = pq.read_table(table_path, columns=COLUMNS)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{stats_path.with_name(name)}: {error}") from error
    if not tar.exists():
        raise DataError(f"{tar}: not found")
    rows = table.to_pylist()
    found = sorted((row["row_id"], row["url"]) for row in rows)
    if found != sorted(zip(asked["row_id"].to_pylist(), asked["url"].to_pylist(), strict=True)):
        raise DataError(f"{table_path}: {len(rows)} rows are not the {asked.num_rows} rows asked for")
    good = [row for row in rows if row["status"] == SUCCESS]
    if (stats.get("count"), stats.get("successes")) != (len(rows), len(good)):
        raise DataError(
            f"{stats_path}: {stats.get('count')} rows and {stats.get('successes')} successes, "
            f"the table has {len(rows)} and {len(good)}"
        )
    lost = Counter(cause_of(row["status"], row["error_message"]) for row in rows if row["status"] != SUCCESS)
    silent = sum(lost[cause] for cause in NO_ANSWER)
    if len(rows) >= FEWEST_ROWS and len(rows) - silent < minimum_yield * len(rows):
        raise DataError(
            f"{table_path}: {silent} of {len(rows)} addresses did not answer "
            f"({', '.join(f'{cause}: {lost[cause]}' for cause in NO_ANSWER)}), so the network or a server seems to be down; "
            "fetch.minimum_yield is the least share that must answer"
        )
    canonicalise(tar)
    held = {member.name for member in members(tar) if member.size}
    needed = {f"{row['key']}.{ending}" for row in good for ending in ("jpg", "json")}
    if held != needed:
        raise DataError(f"{tar}: {len(held)} members are not those of the {len(good)} images in the table")
    shard = Shard(
        name=name,
        rows=len(rows),
        successes=len(good),
        lost=dict(sorted(lost.items())),
        bytes=tar.stat().st_size,
        sha256=file_digest(tar),
        fingerprint=rows_fingerprint((row["row_id"], row["sha256"]) for row in good),
    )
    note_shard(folder, shard)
    return shard
