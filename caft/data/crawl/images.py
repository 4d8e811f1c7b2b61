"""A folder of image shards: begun with a list, and completed after every change of it, without asking twice.

A row is known by its address. Those that the folder has not asked for yet are asked in a further round; those that went
from the list count no more, and all else stays.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from caft.data.crawl.announced import announce, announce_read
from caft.data.crawl.counted import count_rows, count_shards, lost_causes, own_pictures, tables_of
from caft.data.crawl.crawling import Crawling
from caft.data.crawl.decoding import note_rule
from caft.data.crawl.erase import finish_erasing
from caft.data.crawl.listing import begin, belongs, describe, fingerprint, list_of, read_source, write_list
from caft.data.crawl.manifest import Manifest, Shard, forget_shard, known_shard, note_shard
from caft.data.crawl.own import changed, changes, look_at, note_home, note_states, read_states
from caft.data.crawl.retry import OPT_OUT, check_causes, passing, requested
from caft.data.crawl.rounds import Round, Why, begin_round, link_shard, read_rounds, unbegun_request
from caft.data.crawl.rows import counted_table, keep_counted
from caft.errors import DataError
from caft.locking import locked
from caft.params.corpora import FetchParams

logger = logging.getLogger(__name__)
ROWS_OF_LIST = "SELECT row_id, url FROM read_parquet($urls)"


def fetch_images(
    corpus: str,
    urls: Path,
    folder: Path,
    settings: FetchParams,
    serve: AbstractContextManager[None],
    home: Path | None = None,
    again: Sequence[str] | None = None,
    memory_gb: int = 2,
    keep: Path | None = None,
) -> Manifest:
    """Completes a folder of image shards; one that is complete is only looked at.

    Where each row counts is in the folder's table `counted_table`, until something else is fetched into the folder.

    Args:
        corpus: Name of the corpus.
        urls: Table of the source stage.
        folder: Where the shards are.
        settings: How img2dataset is called.
        serve: Makes the addresses answer while it is entered; entered only if something is missing.
        home: Folder from which addresses that name files are taken.
        again: As for `fetch`.
        memory_gb: What a query may hold before it uses `folder`, in gigabytes.
        keep: Where to put a copy of that table; None for nowhere.

    Raises:
        DataError: Shards could not be completed, or the folder's were made with other settings.
    """
    folder = folder.resolve()
    with locked(folder, "fetching into it"), ExitStack() as stack:
        finish_erasing(folder)
        source = begin_first(corpus, urls, folder, settings, memory_gb)
        filling = _Filling(urls, folder, settings, Crawling(corpus, stack, serve, home), memory_gb)
        for one in read_rounds(folder):
            filling.complete(one)
        filling.count()
        unbegun = unbegun_request(folder)
        filling.ask_new()
        if settings.second_pass:
            filling.ask("second_pass", *passing(filling.lost(), filling.counted, filling.tables()))
        if unbegun is not None:
            filling.ask("retry", *requested(filling.lost(), filling.counted, unbegun))
        if again is not None:
            check_causes(folder, filling.lost(), again)
            if filling.lost() - {OPT_OUT}:
                announce(folder)
            if not filling.ask("retry", *requested(filling.lost(), filling.counted, again)):
                logger.info("%s: nothing to try again", corpus)
        if keep is not None:
            keep_counted(folder, keep)
        return filling.manifest(source)


def begin_first(corpus: str, urls: Path, folder: Path, settings: FetchParams, memory_gb: int) -> dict[str, Any]:
    """Writes the first list of a folder that is new.

    Returns:
        What describes the list of now and the settings that the folder was begun with.

    Raises:
        DataError: There is no row, or the folder's images were made with other settings.
    """
    source = describe(urls) | settings.model_dump(include={"images_per_shard", "image_size", "quality"})
    if not source["rows"]:
        raise DataError(f"{urls}: no address to fetch; run `dvc repro --force source@{corpus}`")
    if belongs(folder, corpus, source):
        source["images_per_shard"] = read_source(folder)["images_per_shard"]
        if list_of(folder).exists() or source != read_source(folder):
            return source
    else:
        note_rule(folder)
    write_list(folder, ROWS_OF_LIST, {"urls": str(urls)}, source["images_per_shard"], memory_gb)
    begin(folder, source)
    return source


def note_files(folder: Path, first: int, home: Path | None, files: Iterable[str]) -> None:
    """Notes the states of own files that a round is about to read, but for those that a later one has read.

    Args:
        folder: Folder of the shards.
        first: The number of the round's first shard.
        home: Folder from which the names are taken; None where there are no own files.
        files: Their addresses.
    """
    if home is None:
        return
    lists = [list_of(later.home(folder)) for later in read_rounds(folder) if later.first > first]
    read_later = {
        url for path in lists if path.exists() for url in pq.read_table(path, columns=["url"])["url"].to_pylist()
    }
    states, noted = look_at((url for url in files if url not in read_later), home), read_states(folder)
    announce_read(folder, changes(noted, states))
    note_states(folder, noted | states)


@dataclass
class _Filling:
    """A folder that is being completed: its rounds, and what is known of its shards."""

    urls: Path
    folder: Path
    settings: FetchParams
    crawling: Crawling
    memory_gb: int
    rounds: list[Round] = field(default_factory=list)
    shards: dict[str, Shard] = field(default_factory=dict)

    @property
    def counted(self) -> Path:
        return counted_table(self.folder)

    def tables(self) -> list[str]:
        """Of all shards."""
        return tables_of(self.folder, list(self.shards))

    def lost(self) -> set[str]:
        """Causes of lost rows."""
        return lost_causes(self.counted, self.memory_gb)

    def count(self) -> None:
        """Finds where each row counts, after a round."""
        count_rows(self.urls, self.folder, list(self.shards), self.memory_gb)

    def complete(self, one: Round) -> None:
        """Completes a round; its shards are found in the folder of all."""
        self.rounds.append(one)
        home, left = one.home(self.folder), []
        for position in range(one.shards):
            _, target = one.names(position)
            if shard := known_shard(self.folder, target):
                self.shards[target] = shard
            else:
                left.append(position)
        if not list_of(
            home
        ).exists():  # lost with the round's folder, and with it the rows of shards that are not whole
            for position in left:
                forget_shard(self.folder, one.names(position)[1])
            return
        # Most of what did not answer once will not answer again.
        least = self.settings.minimum_yield if one.why in ("first", "new") else 0.0
        settings = self.settings.model_copy(update={"images_per_shard": one.images_per_shard, "minimum_yield": least})

        def note(files: list[str]) -> None:
            note_files(self.folder, one.first, self.crawling.home, files)

        done = self.crawling.complete(home, left, settings, note)
        for position, shard in sorted(done.items()):
            name, target = one.names(position)
            if home != self.folder:
                link_shard(home, name, self.folder, target)
                shard = replace(shard, name=target)
                note_shard(self.folder, shard)
            self.shards[target] = shard

    def ask_new(self) -> None:
        """Asks for rows that were never asked for, and for own files that have changed."""
        files: list[str] = []
        if (home := self.crawling.home) is not None:
            held = own_pictures(self.counted, self.memory_gb)
            files = changed(self.folder, held, home)
        query = """
            SELECT row_id, url FROM read_parquet($counted)
            WHERE shard IS NULL OR url IN (SELECT unnest($files::VARCHAR[]))
        """
        self.ask("new", query, {"counted": str(self.counted), "files": files})
        if home is not None:
            note_home(self.folder, held, home)

    def ask(self, why: Why, query: str, values: Mapping[str, Any]) -> bool:
        """Asks for the rows of a query in a further round; returns whether there are any."""
        size = self.settings.images_per_shard
        if (one := begin_round(self.folder, why, query, values, size, self.memory_gb)) is None:
            return False
        self.complete(one)
        self.count()
        return True

    def manifest(self, source: dict[str, Any]) -> Manifest:
        """What the folder holds of the rows of now."""
        shards = count_shards(self.counted, self.shards, self.memory_gb)
        return Manifest(self.crawling.corpus, fingerprint(source), shards, self._history(source["rows"]))

    def _history(self, rows: int) -> tuple[int, ...]:
        """As for `Manifest.rounds`."""
        asked = [
            sum(
                self.shards[name].rows
                for position in range(one.shards)
                if (name := one.names(position)[1]) in self.shards
            )
            for one in self.rounds
        ]
        further = [one.why for one in self.rounds[1:]]
        as_new = further in ([], ["second_pass"]) and asked[0] == rows
        return () if as_new and self.rounds[0].images_per_shard == self.settings.images_per_shard else tuple(asked)
