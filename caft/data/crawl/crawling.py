"""Completes a folder of image shards by its list: what is whole stays, what is not is fetched."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from caft.data.crawl.crawl import asked_rows, crawl
from caft.data.crawl.listing import list_of, rewrite_list
from caft.data.crawl.manifest import Shard, forget_shard, known_shard, notes_folder
from caft.data.crawl.own import FILE
from caft.data.crawl.shards import settle, stats_are_written
from caft.errors import DataError
from caft.params.corpora import FetchParams
from caft.progress import track
from caft.storage import write_json

logger = logging.getLogger(__name__)


@dataclass
class Crawling:
    """What all rounds of a fetch share.

    Attributes:
        corpus: Name of the corpus.
        stack: Ends with the fetch.
        serve: Makes the addresses answer; entered when the first shard is missing.
        home: Folder from which addresses that name files are taken.
    """

    corpus: str
    stack: ExitStack
    serve: AbstractContextManager[None]
    home: Path | None
    serving: bool = False

    def complete(
        self, folder: Path, positions: Iterable[int], settings: FetchParams, note_files: Callable[[list[str]], None]
    ) -> dict[int, Shard]:
        """Completes the shards at some positions of a folder's list.

        Args:
            folder: Folder of shards and list.
            positions: In the list.
            settings: How img2dataset is called; `images_per_shard` is the list's.
            note_files: Gets the addresses of own files before they are read.

        Returns:
            The shards by position. Rows of a list of other steps, which `--erase` leaves, cannot be asked for shard by
            shard: of it, what is not whole is removed from list and folder.

        Raises:
            DataError: Several runs in a row ended without one new shard.
        """
        table = pq.ParquetFile(list_of(folder))
        done: dict[int, Shard] = {}
        missing: dict[str, int] = {}
        for position in positions:
            name = f"{position:05d}"
            if not table.metadata.row_group(position).num_rows:
                continue  # all of them were erased
            if shard := _completed(folder, name, table, position, settings):
                done[position] = shard
            else:
                missing[name] = position
        if missing and not _is_even(table, settings.images_per_shard):
            logger.warning("%s: %d shards are not whole; their rows are asked again as new ones", folder, len(missing))
            for name in missing:
                forget_shard(folder, name)
            gone = set(missing.values())
            rewrite_list(folder, lambda position, rows: rows.slice(0, 0) if position in gone else rows)
            return done
        if not missing:
            return done
        logger.info("%s: %d of %d shards to fetch", self.corpus, len(missing), table.num_row_groups)
        urls = (asked_rows(table, position)["url"].to_pylist() for position in missing.values())
        if self.home is not None and (files := [url for some in urls for url in some if url.startswith(FILE)]):
            note_files(files)
        if not self.serving:
            self.stack.enter_context(self.serve)
            self.serving = True
        shards = crawl(folder, list_of(folder), missing, settings, self.home)
        for shard in track(shards, f"{self.corpus} shards", len(missing)):
            done[missing[shard.name]] = shard
        shutil.rmtree(folder / "_tmp", ignore_errors=True)  # img2dataset's, which is not left to clean up
        ended = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        write_json(notes_folder(folder) / "fetched.json", {"ended": ended, "shards": sorted(missing)})
        return done


def _completed(folder: Path, name: str, table: pq.ParquetFile, position: int, settings: FetchParams) -> Shard | None:
    """Entry of a complete shard, from its note or else by reading it; None if it is incomplete."""
    if shard := known_shard(folder, name):
        return shard
    if not stats_are_written(folder, name):
        return None
    try:
        return settle(folder, name, asked_rows(table, position), settings.minimum_yield)
    except DataError as error:
        logger.warning("shard %s is fetched again: %s", name, error)
        return None


def _is_even(table: pq.ParquetFile, images_per_shard: int) -> bool:
    """Whether img2dataset, which counts rows, takes each row group for a shard."""
    groups = (table.metadata.row_group(position).num_rows for position in range(table.num_row_groups - 1))
    return all(rows == images_per_shard for rows in groups)
