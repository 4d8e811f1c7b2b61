"""The list of addresses that a folder of image shards belongs to; a folder never mixes two."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from caft.data.crawl.manifest import notes_folder
from caft.data.tables.row_groups import RowGroups
from caft.data.tables.schema import URLS, open_table
from caft.errors import DataError
from caft.storage import replacing, write_json


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
    """Whether a folder was begun for a list and its settings; False if nothing is in it yet.

    Raises:
        DataError: It was begun for others.
    """
    record = _record(folder)
    if not record.exists():
        return False
    before = json.loads(record.read_text())
    if before != source:
        differing = [key for key in {**source, **before} if before.get(key) != source.get(key)]
        changes = [f"{key} was {before.get(key)}, is {source.get(key)}" for key in differing]
        raise DataError(
            f"{folder}: the images of {corpus} were fetched for another list or with other settings "
            f"({'; '.join(changes)}), and the two must not be mixed. To start over, remove that folder and run "
            f"`dvc repro fetch@{corpus}`; to keep it, use another storage.root (or CAFT_STORAGE) for this run"
        )
    return True


def begin(folder: Path, source: dict[str, Any]) -> None:
    """Records which list and settings a folder belongs to."""
    write_json(_record(folder), source)


def fingerprint(source: dict[str, Any]) -> str:
    """Fingerprint of what `begin` records."""
    return hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()


def write_list(listed: Path, urls: Path, images_per_shard: int) -> None:
    """Writes the list that img2dataset reads, one row group per shard.

    The order is that of the addresses' hashes: it spreads the hosts over the shards, and does not depend on the order
    of the rows of `urls`, a table with row_id and url.
    """
    order = "SELECT row_id, url FROM read_parquet($urls) ORDER BY md5(url), row_id"
    with duckdb.connect() as database:
        batches = database.sql(order, params={"urls": str(urls)}).to_arrow_reader(images_per_shard)
        schema = pa.schema([("row_id", pa.int64()), ("url", pa.string())])
        with replacing(listed) as temporary, RowGroups(temporary, schema, images_per_shard) as groups:
            for batch in batches:
                groups.add(pa.Table.from_batches([batch]).cast(schema))


def _record(folder: Path) -> Path:
    return notes_folder(folder) / "source.json"
