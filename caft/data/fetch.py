"""Fetches the images of a corpus and says exactly what came: every address has an image or a cause of loss.

A folder of shards is added to and never mixed: it remembers the list and the settings that it was
begun with. What is whole is never fetched again, what is not whole is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from caft.data.crawl import STALL_SECONDS, asked_rows, crawl
from caft.data.locking import locked
from caft.data.manifest import Manifest, Shard, known_shard, notes_folder, verify
from caft.data.origin import origin
from caft.data.schema import URLS, open_table
from caft.data.shards import settle, stats_are_written
from caft.data.tars import digest
from caft.errors import DataError, ManifestError
from caft.params import FetchParams, Params
from caft.progress import track
from caft.storage import images_folder, read_json, replacing, write_json

logger = logging.getLogger(__name__)


def fetch(params: Params, corpus: str, urls: Path) -> dict[str, Any]:
    """Fetches what is missing of a corpus, and gives its manifest.

    Args:
        params: Settings.
        corpus: Name of the corpus.
        urls: Table of the source stage.

    Returns:
        The content of the manifest's file: shards, counts, losses by cause, fingerprints; nothing that depends on
        when or how often it ran.

    Raises:
        DataError: Shards could not be completed, too few images came, or the folder holds another list's images.
    """
    folder = images_folder(params, corpus)
    settings = params.fetch_for(corpus)
    manifest = fetch_images(corpus, urls, folder, settings, origin(params.corpus[corpus]))
    if manifest.successes < settings.minimum_yield * manifest.rows:
        raise DataError(
            f"{corpus}: {manifest.successes} of {manifest.rows} images came "
            f"({manifest.successes / manifest.rows:.1%}), the least allowed is {settings.minimum_yield:.0%} "
            f"(fetch.minimum_yield). Losses by cause: {manifest.lost}. To try all again, remove {folder} and run "
            f"`dvc repro fetch@{corpus}`; to accept them, lower fetch.minimum_yield"
        )
    return manifest.as_json()


def ensure_images(params: Params, corpus: str, manifest: Mapping[str, Any]) -> None:
    """Checks that the images of a manifest are on disk, and fetches again what is not; fast if nothing is missing.

    Args:
        params: Settings.
        corpus: Name of the corpus.
        manifest: What the fetch stage wrote.

    Raises:
        ManifestError: What is on disk, or came back, is not what the manifest describes.
        DataError: Shards could not be completed.
    """
    where = f"data/images/{corpus}.json"
    expected = Manifest.from_json(manifest, where)
    folder = images_folder(params, corpus)
    if not (problems := verify(expected, folder)):
        return
    urls = Path(f"data/urls/{corpus}.parquet")
    if not urls.exists():
        raise ManifestError(
            f"{folder}: {len(problems)} of the {len(expected.shards)} shards in {where} are not there, and {urls}, "
            f"which would tell what to fetch, is missing too; run `dvc checkout {urls}` or `dvc repro source@{corpus}`"
        )
    logger.warning("%s: %d of %d shards in %s are not there", folder, len(problems), len(expected.shards), where)
    fetch_images(corpus, urls, folder, params.fetch_for(corpus), origin(params.corpus[corpus]))
    if problems := verify(expected, folder):
        name, problem = next(iter(problems.items()))
        raise ManifestError(
            f"{folder}: {len(problems)} shards are not those that {where} describes, the first is {name}: {problem}. "
            "Pictures have changed where they come from, or another fetch has filled the folder. To go on with what "
            f"is there now, run `dvc repro --force fetch@{corpus}`"
        )


def ensure_indexed(params: Params, index: str, corpora: Sequence[Mapping[str, str]]) -> None:
    """Checks that an index was made from the images that the manifests describe, and that those are on disk.

    Args:
        params: Settings.
        index: What to call the index in errors.
        corpora: Its own list of corpora: name, and digest of the manifest.

    Raises:
        ManifestError: The index is of other images, or as `ensure_images`.
        DataError: As `ensure_images`.
    """
    for corpus in corpora:
        name = corpus["name"]
        path = Path(f"data/images/{name}.json")
        manifest = read_json(path, f"fetch@{name}")
        if corpus.get("manifest") != digest(path):
            raise ManifestError(
                f"{index}: was made from other images of {name} than those that {path} describes; run `dvc repro index`"
            )
        ensure_images(params, name, manifest)


def fetch_images(
    corpus: str,
    urls: Path,
    folder: Path,
    settings: FetchParams,
    serve: AbstractContextManager[None],
    stall_seconds: float = STALL_SECONDS,
) -> Manifest:
    """Completes a folder of image shards; one that is complete is only looked at.

    Args:
        corpus: Name of the corpus.
        urls: Table of the source stage.
        folder: Folder of the shards.
        settings: How img2dataset is called.
        serve: Makes the addresses answer while it is entered; entered only if something is missing.
        stall_seconds: After this time without any file growing, img2dataset is started anew.

    Raises:
        DataError: As `fetch`.
    """
    folder = folder.resolve()
    with locked(folder, "fetching into it"):
        source = _describe(urls, settings)
        listed = _prepare_list(corpus, urls, folder, source)
        table = pq.ParquetFile(listed)
        done: dict[str, Shard] = {}
        missing: dict[str, int] = {}
        for position in range(table.num_row_groups):
            name = f"{position:05d}"
            shard = _completed(folder, name, table, position, settings)
            if shard is None:
                missing[name] = position
            else:
                done[name] = shard
        if missing:
            logger.info("%s: %d of %d shards to fetch", corpus, len(missing), table.num_row_groups)
            with serve:
                shards = crawl(folder, listed, missing, settings, stall_seconds)
                for shard in track(shards, f"{corpus} shards", len(missing)):
                    done[shard.name] = shard
            shutil.rmtree(folder / "_tmp", ignore_errors=True)  # img2dataset's, which is not left to clean up
            ended = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            write_json(notes_folder(folder) / "fetched.json", {"ended": ended, "shards": sorted(missing)})
        digest = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()
        manifest = Manifest(corpus, digest, tuple(done[name] for name in sorted(done)))
    if manifest.rows != source["rows"]:
        raise DataError(f"{folder}: {manifest.rows} rows in its shards, but {urls} has {source['rows']}")
    return manifest


def _completed(folder: Path, name: str, table: pq.ParquetFile, position: int, settings: FetchParams) -> Shard | None:
    """A shard's entry if it is whole: as noted, or, where no note holds, by reading it."""
    if shard := known_shard(folder, name):
        return shard
    if not stats_are_written(folder, name):
        return None
    try:
        return settle(folder, name, asked_rows(table, position), settings.minimum_yield)
    except DataError as error:
        logger.warning("shard %s is fetched again: %s", name, error)
        return None


def _describe(urls: Path, settings: FetchParams) -> dict[str, Any]:
    """What the files in a folder of shards depend on: the list, and the settings that shape them."""
    row_ids, addresses, rows = hashlib.sha256(), hashlib.sha256(), 0
    for batch in open_table(urls, URLS).iter_batches(columns=["row_id", "url"]):
        if batch["url"].null_count:
            raise DataError(f"{urls}: {batch['url'].null_count} rows have no url; run its stage again")
        rows += batch.num_rows
        row_ids.update(batch["row_id"].to_numpy().astype("<i8").tobytes())
        # Lengths and bytes, so that no separator can be part of an address.
        addresses.update("".join(f"{len(url)}:{url}" for url in batch["url"].to_pylist()).encode())
    return {
        "rows": rows,
        "list": hashlib.sha256(row_ids.digest() + addresses.digest()).hexdigest(),
        **settings.model_dump(include={"images_per_shard", "image_size", "quality"}),
    }


def _prepare_list(corpus: str, urls: Path, folder: Path, source: dict[str, Any]) -> Path:
    """Writes the list that img2dataset reads, or checks that it is the one the folder was begun with.

    One row group is one shard. The order is that of the addresses' hashes: it spreads the hosts over
    the shards, and does not depend on the order of the rows.
    """
    listed, record = notes_folder(folder) / "urls.parquet", notes_folder(folder) / "source.json"
    if record.exists():
        before = json.loads(record.read_text())
        if before != source:
            differing = [key for key in source if before.get(key) != source[key]]
            changes = [f"{key} was {before.get(key)}, is {source[key]}" for key in differing]
            raise DataError(
                f"{folder}: the images of {corpus} were fetched for another list or with other settings "
                f"({'; '.join(changes)}), and the two must not be mixed. To start over, remove that folder and run "
                f"`dvc repro fetch@{corpus}`; to keep it, use another storage.root (or CAFT_STORAGE) for this run"
            )
        if listed.exists():
            return listed
    if not source["rows"]:
        raise DataError(f"{urls}: no address to fetch; run `dvc repro --force source@{corpus}`")
    with duckdb.connect() as database:
        order = "SELECT row_id, url FROM read_parquet($urls) ORDER BY md5(url), row_id"
        table = database.sql(order, params={"urls": str(urls)}).to_arrow_table()
    with replacing(listed) as temporary:
        pq.write_table(table, temporary, row_group_size=source["images_per_shard"], compression="zstd")
    write_json(record, source)
    return listed
