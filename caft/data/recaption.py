"""Joins captions to fetched images: one table for each tar, its rows in the tar's order."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from caft.data.cluster import ray_tasks
from caft.data.manifest import members
from caft.data.schema import CAPTIONS, FIELDS
from caft.errors import DataError
from caft.storage import replacing, write_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """Work of one task: the tar and its table by img2dataset, the captions, and the table to write."""

    tar: Path
    urls: Path
    target: Path

    def __str__(self) -> str:
        return str(self.tar)


def join_captions(manifest: dict[str, Any], images: Path, urls: Path, work: Path) -> dict[str, Any]:
    """Writes a table for each shard of a manifest into `work`, one Ray task each; those that are there stay.

    Args:
        manifest: Of the fetch stage.
        images: Folder of the shards.
        urls: Table of the source stage.
        work: Kept after a kill, so that only what is missing is done again.

    Returns:
        Summary: rows in, rows out, dropped by reason.

    Raises:
        DataError: An image's URL is not that of the caption row it would be joined to, or counts do not add up.
    """
    work.mkdir(parents=True, exist_ok=True)
    _check_urls(images, [shard["name"] for shard in manifest["shards"]], urls)
    shards = [
        Shard(images / f"{shard['name']}.tar", urls, work / f"{shard['name']}.parquet") for shard in manifest["shards"]
    ]
    ray_tasks(write_shard, [shard for shard in shards if not shard.target.exists()], "caption shards")
    rows_out = sum(pq.read_metadata(shard.target).num_rows for shard in shards)
    if rows_out != manifest["successes"]:
        raise DataError(f"{work}: {rows_out} rows for {manifest['successes']} images; remove the folder and run again")
    summary = {"rows_in": manifest["successes"], "rows_out": rows_out, "dropped": {}}
    write_json(work / "_summary.json", summary)
    return summary


def _check_urls(images: Path, names: list[str], urls: Path) -> None:
    """Every fetched image must have the URL of the row that it names: a shifted join shows here."""
    tables = [str(images / f"{name}.parquet") for name in names]
    with duckdb.connect() as database:
        wrong = database.execute(
            """
            select i.row_id, i.url, u.url from read_parquet($tables) i left join read_parquet($urls) u using (row_id)
            where i.status = 'success' and i.url is distinct from u.url order by i.row_id
            """,
            {"tables": tables, "urls": str(urls)},
        ).fetchall()
    if wrong:
        row, found, expected = wrong[0]
        raise DataError(
            f"{images}: {len(wrong)} images do not have the URL of their caption row; first is row {row}, fetched from "
            f"{found}, while {urls} has {expected}. The images are another list's: remove the folder and fetch again"
        )


def write_shard(shard: Shard) -> int:
    """Writes the table of one tar; returns its rows."""
    pictures = [member for member in members(shard.tar) if member.name.endswith(".jpg")]
    with duckdb.connect() as database:
        database.execute("set threads = 1")
        database.register(
            "pictures",
            pa.table(
                {
                    "place": pa.array(range(len(pictures)), pa.int64()),
                    "key": [member.name.removesuffix(".jpg") for member in pictures],
                    "offset": pa.array([member.offset for member in pictures], pa.int64()),
                    "size": pa.array([member.size for member in pictures], pa.int32()),
                }
            ),
        )
        columns = ", ".join(f"u.{field}" for field in FIELDS)
        table = database.execute(
            f"""
            select p.key, i.row_id, p."offset", p.size, i.width, i.height, i.sha256, {columns}
            from pictures p
            join read_parquet($table) i on i.key = p.key
            join read_parquet($urls) u on u.row_id = i.row_id
            order by p.place
            """,
            {"table": str(shard.tar.with_suffix(".parquet")), "urls": str(shard.urls)},
        ).to_arrow_table()
    assert table is not None
    if table.num_rows != len(pictures):
        raise DataError(f"{shard.tar}: {len(pictures)} pictures, but {table.num_rows} have a caption row")
    with replacing(shard.target) as temporary:
        pq.write_table(table.cast(CAPTIONS), temporary, compression="zstd", row_group_size=1000)
    return int(table.num_rows)


def publish(work: Path, out: Path) -> None:
    """Moves a finished work folder to where it belongs."""
    with replacing(out) as temporary:
        os.replace(work, temporary)
