"""The retry pass of a crawl: rows that failed for a transient reason are fetched once more, into shards of their own.

img2dataset only tries again at once, which is no use against a server that is busy or down for a while. Here the rows
are tried after all others. Each row counts where it was tried last.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from caft.data.crawl.causes import cause_of
from caft.data.crawl.manifest import Shard, notes_folder, shard_files
from caft.data.crawl.shards import SUCCESS
from caft.storage import replacing

# Of 4xx, too many requests, and those that servers give when they were slow. Dead links stay dead.
PASSING = {"timeout", "unreachable", "cut_short", "http_408", "http_425", "http_429"}


def is_transient(cause: str) -> bool:
    """Whether a retry may succeed where the first pass failed for this cause."""
    return cause in PASSING or cause.startswith("http_5")


def transient_failures(folder: Path, shards: Mapping[str, Shard]) -> tuple[pa.Table, dict[str, Shard]]:
    """Finds the rows to retry.

    Args:
        folder: Folder of the shards.
        shards: Those of the first pass.

    Returns:
        row_id and url of the rows, and the entries of the shards without them.
    """
    found: list[tuple[int, str]] = []
    without = {}
    for name, shard in sorted(shards.items()):  # not as they were completed: the list must be the same each time
        left = Counter(shard.lost)
        if any(map(is_transient, left)):
            table = pq.read_table(shard_files(folder, name)[1], columns=["row_id", "url", "status", "error_message"])
            for row in table.to_pylist():
                if row["status"] == SUCCESS or not is_transient(cause := cause_of(row["status"], row["error_message"])):
                    continue
                found.append((row["row_id"], row["url"]))
                left[cause] -= 1
        lost = {cause: count for cause, count in shard.lost.items() if left[cause]}
        without[name] = replace(shard, rows=shard.successes + sum(lost.values()), lost=lost)
    rows, urls = zip(*found, strict=True) if found else ((), ())
    return pa.table({"row_id": pa.array(rows, pa.int64()), "url": pa.array(urls, pa.string())}), without


def prepare(folder: Path, rows: pa.Table) -> tuple[Path, Path]:
    """Prepares the folder of the retry pass; shards of other rows are removed.

    Returns:
        The folder, and the table of its rows.
    """
    home = folder / "again"
    asked = notes_folder(home) / "asked.parquet"
    if asked.exists() and not pq.read_table(asked).equals(rows):
        shutil.rmtree(home)
    if not asked.exists():
        with replacing(asked) as temporary:
            pq.write_table(rows, temporary)
    return home, asked


def link_shard(home: Path, name: str, folder: Path, target: str) -> None:
    """Links the files of a retried shard into the folder of the shards, under a new number."""
    for source, file in zip(shard_files(home, name), shard_files(folder, target), strict=True):
        with replacing(file) as temporary:
            os.link(source, temporary)
