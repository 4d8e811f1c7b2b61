"""The lists of addresses of a folder of image shards, and the settings that all pictures in it were made with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from caft.data.crawl.manifest import notes_folder
from caft.data.tables.database import bounded
from caft.data.tables.meanings import schema
from caft.data.tables.row_groups import RowGroups
from caft.data.tables.schema import URLS, open_table
from caft.errors import DataError
from caft.storage import replacing, write_json

LISTED = schema([("row_id", pa.int64()), ("url", pa.string())])


def describe(urls: Path) -> dict[str, Any]:
    """Number of rows of the source stage's table, and a digest of row ids and addresses."""
    row_ids, addresses, rows = hashlib.sha256(), hashlib.sha256(), 0
    for batch in open_table(urls, URLS).iter_batches(columns=["row_id", "url"]):
        if batch["url"].null_count:
            raise DataError(f"{urls}: {batch['url'].null_count} rows have no url; run its stage again")
        rows += batch.num_rows
        row_ids.update(batch["row_id"].to_numpy().astype("<i8").tobytes())
        # Lengths and bytes, so that no separator can be part of an address.
        addresses.update("".join(f"{len(url)}:{url}" for url in batch["url"].to_pylist()).encode())
    return {"rows": rows, "list": hashlib.sha256(row_ids.digest() + addresses.digest()).hexdigest()}


def belongs(folder: Path, corpus: str, source: dict[str, Any]) -> bool:
    """Whether a folder was begun with the same settings, for whatever list; False if nothing is in it yet.

    Args:
        folder: Folder of the shards.
        corpus: Name of the corpus.
        source: As `begin` takes it.

    Raises:
        DataError: Its pictures were made otherwise: crawled or packed, of another size or quality.
    """
    if not is_begun(folder):
        return False
    before, now = _shape(read_source(folder)), _shape(source)
    both = before.keys() & now.keys()
    if changes := [f"{key} was {before[key]}, is {now[key]}" for key in sorted(both) if before[key] != now[key]]:
        raise DataError(
            f"{folder}: the images of {corpus} were made with other settings ({'; '.join(changes)}), and the two must not be "
            f"mixed. To start over, remove that folder and run `dvc repro fetch@{corpus}`; to keep it, use another "
            "storage.root (or CAFT_STORAGE) for this run"
        )
    return True


def _shape(source: dict[str, Any]) -> dict[str, Any]:
    if "packed" in source:
        return {"source": "packed tars"}
    return {"source": "a crawl", "image_size": source["image_size"], "quality": source["quality"]}


def begin(folder: Path, source: dict[str, Any]) -> None:
    """Records which list, of `describe`, and which settings a folder was begun with."""
    write_json(_record(folder), source)


def is_begun(folder: Path) -> bool:
    """Whether a folder of image shards was begun."""
    return _record(folder).exists()


def read_source(folder: Path) -> dict[str, Any]:
    """What `begin` has recorded."""
    found: dict[str, Any] = json.loads(_record(folder).read_text())
    return found


def fingerprint(source: dict[str, Any]) -> str:
    """Fingerprint of a list and settings."""
    return hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()


def list_of(home: Path) -> Path:
    """The list that img2dataset reads: row_id and url, one row group for each shard of a folder."""
    return notes_folder(home) / "urls.parquet"


def write_list(home: Path, rows: str, values: Mapping[str, Any], images_per_shard: int, memory_gb: int) -> None:
    """Writes a folder's list.

    The order is that of the addresses' hashes: it spreads the hosts over the shards, and does not depend on the order
    in which the rows come.

    Args:
        home: Folder of the shards.
        rows: A query that gives row_id and url.
        values: Its parameters.
        images_per_shard: Rows of a row group.
        memory_gb: What the sort may hold before it uses `home`, in gigabytes.
    """
    with replacing(list_of(home)) as temporary, bounded(notes_folder(home), memory_gb) as database:
        found = database.sql(f"SELECT row_id, url FROM ({rows}) ORDER BY md5(url), row_id", params=dict(values))
        batches = found.to_arrow_reader(images_per_shard)
        with RowGroups(temporary, LISTED, images_per_shard) as groups:
            for batch in batches:
                groups.add(pa.Table.from_batches([batch]).cast(LISTED))


def rewrite_list(home: Path, kept: Callable[[int, pa.Table], pa.Table]) -> None:
    """Writes a folder's list anew, of the rows that are kept of each row group; one may be left empty.

    Args:
        home: Folder of the shards.
        kept: Gets the position of a shard and its rows, and returns those that stay.
    """
    table = pq.ParquetFile(list_of(home))
    with (
        replacing(list_of(home)) as temporary,
        pq.ParquetWriter(temporary, table.schema_arrow, compression="zstd") as writer,
    ):
        for position in range(table.num_row_groups):
            rows = kept(position, table.read_row_group(position))
            writer.write_table(rows, max(1, rows.num_rows))


def _record(folder: Path) -> Path:
    return notes_folder(folder) / "source.json"
