"""Joins captions to fetched images: one table for each tar, its rows in the tar's order.

DuckDB joins by row_id, on narrow tables or with the captions streaming past; the tables of a tar are
then written by Ray tasks, one for each tar, which need nothing but that tar's rows.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from caft.data.crawl.rows import COUNTED, counted_table
from caft.data.crawl.tars import pictures
from caft.data.tables.cluster import ray_tasks
from caft.data.tables.database import bounded
from caft.data.tables.schema import CAPTIONS, FIELDS, URLS, open_table
from caft.errors import DataError
from caft.storage import replacing

logger = logging.getLogger(__name__)

# Captions lie in the order of the source, and a tar's rows are spread all over it. So they are gathered for many tars
# at a time, in one pass over the source: about half a million rows, 1.2 GB of text for DuckDB to sort.
SHARDS_AT_ONCE = 50
GATHERED = "gathered"


class CaptionTask(NamedTuple):
    """Work of one task: the tar, the gathered rows that hold its own, and the table to write."""

    tar: Path
    gathered: Path
    target: Path

    def __str__(self) -> str:
        return str(self.tar)


def join_captions(
    manifest: Mapping[str, Any],
    images: Path,
    urls: Path,
    work: Path,
    memory_gb: int = 2,
    counted: Path | None = None,
) -> dict[str, Any]:
    """Writes a table for each shard of a manifest into `work`, one Ray task each; existing ones are kept.

    Args:
        manifest: Of the fetch stage.
        images: Folder of the shards; absolute.
        urls: Table of the source stage; absolute.
        work: Kept after a kill, so that only what is missing is done again; absolute.
        memory_gb: What a query may hold before it uses `work`, in gigabytes.
        counted: Where each row's image is, as the fetch stage writes it, absolute; None for the folder's own.

    Returns:
        Summary: rows in, rows out, dropped by reason, and the SHA-256 of each tar, of which the offsets are. No row is
        dropped here: an image without its captions is an error.

    Raises:
        DataError: An image's URL is not that of the caption row it would be joined to, or counts do not add up.
        SchemaError: The table of the source stage, or of the rows, has not the expected columns.
    """
    counted = counted_table(images) if counted is None else counted
    open_table(urls, URLS).close()
    open_table(counted, COUNTED).close()
    work.mkdir(parents=True, exist_ok=True)
    names = [shard["name"] for shard in manifest["shards"]]
    _check_urls(counted, urls, work, memory_gb)
    shards = []
    for first in range(0, len(names), SHARDS_AT_ONCE):
        group = names[first : first + SHARDS_AT_ONCE]
        gathered = work / GATHERED / f"{group[0]}.parquet"
        tasks = [CaptionTask(images / f"{name}.tar", gathered, work / f"{name}.parquet") for name in group]
        if not gathered.exists() and not all(task.target.exists() for task in tasks):
            _gather(counted, group, urls, gathered, memory_gb)
        shards += tasks
    ray_tasks(write_captions, [shard for shard in shards if not shard.target.exists()], "caption shards")
    for shard, entry in zip(shards, manifest["shards"], strict=True):
        rows = pq.read_metadata(shard.target).num_rows
        if rows != entry["successes"]:
            raise DataError(f"{shard.target}: {rows} rows for {entry['successes']} images; remove {work} and run again")
    shutil.rmtree(work / GATHERED, ignore_errors=True)
    return {
        "rows_in": manifest["successes"],
        "rows_out": manifest["successes"],
        "dropped": {},
        "shards": {entry["name"]: entry["sha256"] for entry in manifest["shards"]},
    }


def _check_urls(counted: Path, urls: Path, work: Path, memory_gb: int) -> None:
    """Every fetched image must have the URL of the row that it names: a shifted join shows here."""
    with bounded(work, memory_gb) as database:
        wrong = database.execute(
            """
            SELECT count(*), arg_min((row_id, i.url, u.url), row_id)
            FROM read_parquet($counted) i LEFT JOIN read_parquet($urls) u USING (row_id)
            WHERE i.cause IS NULL AND i.url IS DISTINCT FROM u.url
            """,
            {"counted": str(counted), "urls": str(urls)},
        ).fetchone()
    if wrong and wrong[0]:
        row, found, expected = wrong[1]
        raise DataError(
            f"{counted}: {wrong[0]} images do not have the URL of their caption row; first is row {row}, fetched from "
            f"{found}, while {urls} has {expected}. The two are of different lists: run `dvc repro --force` of the fetch stage"
        )


def _gather(counted: Path, names: Sequence[str], urls: Path, target: Path, memory_gb: int) -> None:
    """Writes the captions of all images of some shards, in order of shard and key."""
    columns = ", ".join(f"u.{field}" for field in FIELDS)
    with replacing(target) as temporary, bounded(target.parent, memory_gb) as database:
        database.execute(
            f"""
            COPY (
                SELECT i.shard, i.key, i.row_id, i.width, i.height, i.download_sha256, {columns}
                FROM read_parquet($urls) u
                JOIN (
                    SELECT shard, key, row_id, width, height, download_sha256 FROM read_parquet($counted)
                    WHERE cause IS NULL AND shard IN (SELECT unnest($names))
                ) i USING (row_id)
                ORDER BY i.shard, i.key
            ) TO '{str(temporary).replace("'", "''")}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 4096)
            """,
            {"counted": str(counted), "names": list(names), "urls": str(urls)},
        )


def write_captions(task: CaptionTask) -> int:
    """Writes the table of one tar; returns its rows.

    Raises:
        DataError: The pictures in the tar are not those of the gathered rows.
    """
    held = pictures(task.tar)
    rows = pq.read_table(task.gathered, filters=[("shard", "=", task.tar.stem)], use_threads=False)
    found = [held.get(key) for key in rows["key"].to_pylist()]
    offsets = [member.offset for member in found if member is not None]
    if len(offsets) < rows.num_rows:
        raise DataError(
            f"{task.tar}: {len(held)} pictures are not the {rows.num_rows} of its table {task.tar.stem}.parquet; "
            "remove both and run the stage again"
        )
    sizes = [member.size for member in found if member is not None]
    rows = rows.append_column("offset", pa.array(offsets, pa.int64()))
    rows = rows.append_column("size", pa.array(sizes, pa.int32()))
    table = rows.select(CAPTIONS.names).cast(CAPTIONS).combine_chunks()
    if offsets != sorted(offsets):  # in a packed tar, keys need not be in order
        table = table.sort_by("offset")
    with replacing(task.target) as temporary, pq.ParquetWriter(temporary, CAPTIONS, compression="zstd") as writer:
        if table.num_rows:  # at a row group without rows, readers of a whole folder give up (`datasets`)
            writer.write_table(table, 1000)
    return int(table.num_rows)
