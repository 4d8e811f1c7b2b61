"""Fetches the images of a corpus and accounts for every address: an image, or the cause of its loss.

A folder of shards is added to and never mixed: it remembers the list and the settings that it was
begun with. What is whole is never fetched again, what is not whole is.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from caft.data.crawl import retry
from caft.data.crawl.crawl import asked_rows, crawl
from caft.data.crawl.decoding import note_rule, warn_if_older
from caft.data.crawl.listing import begin, belongs, describe, fingerprint, write_list
from caft.data.crawl.manifest import (
    Manifest,
    Shard,
    forget_shard,
    known_shard,
    note_shard,
    notes_folder,
    shard_files,
    verify,
)
from caft.data.crawl.own import note_state, seen_state, state_of
from caft.data.crawl.packed import link_packed
from caft.data.crawl.shards import settle, stats_are_written
from caft.data.scenes.server import serving
from caft.digests import file_digest
from caft.errors import DataError, ManifestError
from caft.locking import locked
from caft.params import Params
from caft.params.corpora import CorpusParams, CustomCorpus, FetchParams, ScenesCorpus
from caft.progress import track
from caft.storage import images_folder, in_checkout, read_json, replacing, write_json

logger = logging.getLogger(__name__)


def fetch(params: Params, corpus: str, urls: Path, again: Sequence[str] | None = None) -> dict[str, Any]:
    """Fetches the missing shards of a corpus and returns its manifest.

    Args:
        params: Settings.
        corpus: A key of the table `corpus`.
        urls: Table of the source stage.
        again: Causes of which lost rows are tried once more; empty, of all but an owner's refusal; None, only what is missing.

    Returns:
        The content of the manifest's file: nothing in it depends on when or how often it ran.

    Raises:
        DataError: Shards could not be completed, too few images came, or the folder holds another list's images.
    """
    settings = params.fetch_for(corpus)
    manifest = _complete(params, corpus, urls, again)
    if manifest.successes < settings.minimum_yield * manifest.rows:
        raise DataError(
            f"{corpus}: {manifest.successes} of {manifest.rows} images came "
            f"({manifest.successes / manifest.rows:.1%}), the least allowed is {settings.minimum_yield:.0%} "
            f"(fetch.minimum_yield). Losses by cause: {manifest.lost}. To try lost ones again, run "
            f"`python -m pipelines.fetch {corpus} --retry` (causes after it choose); to accept them, lower fetch.minimum_yield"
        )
    return manifest.as_json()


def fetch_part(params: Params, corpus: str, urls: Path, part: int, parts: int) -> None:
    """Fetches every `parts`-th shard of a corpus that is missing, so that several machines share the work.

    `fetch` then finds these shards whole, tries once more what failed for now, and gives the manifest.

    `part` counts from 0; the other arguments are those of `fetch`.

    Raises:
        DataError: As `fetch`.
    """
    entry = params.corpus[corpus]
    if _packed(entry) is not None:
        return  # nothing is fetched
    folder, settings = images_folder(params, corpus).resolve(), params.fetch_for(corpus)
    _warn_if_older(entry, corpus, folder)
    with locked(folder, "fetching into it"):
        listed, _ = _begin(corpus, urls, folder, settings)
    home = folder / f"parts/{part}-of-{parts}"
    with locked(home, "fetching this part"), ExitStack() as stack:
        own = home / "shards"
        positions = _positions_of_part(folder, own, listed, part, parts)
        done = _Crawling(corpus, stack, origin(entry), pictures_home(entry)).complete(
            own, notes_folder(own) / "urls.parquet", settings
        )
        for position, name in zip(positions, sorted(done), strict=True):
            target = f"{position:05d}"
            if known_shard(folder, target) is None:
                retry.link_shard(own, name, folder, target)
                note_shard(folder, replace(done[name], name=target))


def _positions_of_part(folder: Path, own: Path, listed: Path, part: int, parts: int) -> list[int]:
    """Positions in the list of the shards that a part has to fetch, whose addresses are written as a list of their own.

    What was begun is kept, unless shards have been lost since.
    """
    record, table = notes_folder(own) / "positions.json", pq.ParquetFile(listed)
    mine = range(part, table.num_row_groups, parts)
    missing = [position for position in mine if known_shard(folder, f"{position:05d}") is None]
    if record.exists():
        begun: list[int] = json.loads(record.read_text())
        if set(missing) <= set(begun):
            return begun
        shutil.rmtree(own)
    with (
        replacing(notes_folder(own) / "urls.parquet") as temporary,
        pq.ParquetWriter(temporary, table.schema_arrow, compression="zstd") as writer,
    ):
        for position in missing:
            writer.write_table(table.read_row_group(position))
    write_json(record, missing)
    return missing


def ensure_images(params: Params, corpus: str, manifest: Mapping[str, Any]) -> None:
    """Checks that the images of a manifest are on disk and fetches missing shards; fast if none is missing.

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
            f"which would say what to fetch, is missing too; run `dvc checkout {urls}` or `dvc repro source@{corpus}`"
        )
    logger.warning("%s: %d of %d shards in %s are not there", folder, len(problems), len(expected.shards), where)
    _complete(params, corpus, urls)
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
        if corpus.get("manifest") != file_digest(path):
            raise ManifestError(
                f"{index}: was made from other images of {name} than those that {path} describes; run `dvc repro index`"
            )
        ensure_images(params, name, manifest)


def _complete(params: Params, corpus: str, urls: Path, again: Sequence[str] | None = None) -> Manifest:
    """Completes a corpus' images from where its settings say that they are."""
    entry, folder, settings = params.corpus[corpus], images_folder(params, corpus), params.fetch_for(corpus)
    if (packed := _packed(entry)) is not None:
        if again is not None:
            raise DataError(
                f"{corpus}: its images are packed in {packed}, where nothing is fetched that could be tried again"
            )
        return link_packed(corpus, urls, in_checkout(packed), folder, params.storage.memory_gb)
    _warn_if_older(entry, corpus, folder)
    return fetch_images(corpus, urls, folder, settings, origin(entry), pictures_home(entry), again)


def _warn_if_older(entry: CorpusParams, corpus: str, folder: Path) -> None:
    if not isinstance(entry, ScenesCorpus):  # whose pictures are the same by every rule
        warn_if_older(corpus, folder)


def _packed(entry: CorpusParams) -> str | None:
    """Where the tars of a corpus that others have packed are; None if its images are fetched."""
    return None if isinstance(entry, ScenesCorpus) else entry.packed


def origin(corpus: CorpusParams) -> AbstractContextManager[None]:
    """Makes the URLs of a corpus answer while the block runs; for corpora of the web there is nothing to do."""
    if isinstance(corpus, ScenesCorpus):
        return serving(corpus.port, corpus.seed, corpus.image_size)
    return nullcontext()


def pictures_home(corpus: CorpusParams) -> Path | None:
    """Returns the folder from which a custom table's file names are taken: its own; None for other corpora."""
    return in_checkout(corpus.table).resolve().parent if isinstance(corpus, CustomCorpus) else None


def fetch_images(
    corpus: str,
    urls: Path,
    folder: Path,
    settings: FetchParams,
    serve: AbstractContextManager[None],
    home: Path | None = None,
    again: Sequence[str] | None = None,
) -> Manifest:
    """Completes a folder of image shards; one that is complete is only looked at.

    Args:
        corpus: Name of the corpus.
        urls: Table of the source stage.
        folder: Where the shards are.
        settings: How img2dataset is called.
        serve: Makes the addresses answer while it is entered; entered only if something is missing.
        home: Folder from which addresses that name files are taken.
        again: As for `fetch`.

    Raises:
        DataError: As `fetch`.
    """
    folder = folder.resolve()
    with locked(folder, "fetching into it"), ExitStack() as stack:
        crawling = _Crawling(corpus, stack, serve, home)
        listed, source = _begin(corpus, urls, folder, settings)
        standing = retry.Standing(crawling.complete(folder, listed, settings))
        for further in retry.passes(folder, settings.second_pass):
            _try_again(crawling, folder, standing, further, settings)
        if again is not None:
            if asked := retry.further_pass(folder, standing.shards, again, settings.second_pass):
                _try_again(crawling, folder, standing, asked, settings)
            else:
                logger.info("%s: nothing to try again", corpus)
        manifest = Manifest(corpus, fingerprint(source), tuple(shard for _, shard in sorted(standing.shards.items())))
    if manifest.rows != source["rows"]:
        raise DataError(f"{folder}: {manifest.rows} rows in its shards, but {urls} has {source['rows']}")
    return manifest


def _begin(corpus: str, urls: Path, folder: Path, settings: FetchParams) -> tuple[Path, dict[str, Any]]:
    """The list that a folder of shards belongs to, written if it is new, and what describes it."""
    source = describe(urls) | settings.model_dump(include={"images_per_shard", "image_size", "quality"})
    listed = notes_folder(folder) / "urls.parquet"
    if not (begun := belongs(folder, corpus, source)):
        note_rule(folder)
    if not (begun and listed.exists()):
        if not source["rows"]:
            raise DataError(f"{urls}: no address to fetch; run `dvc repro --force source@{corpus}`")
        write_list(listed, urls, settings.images_per_shard)
        begin(folder, source)
    return listed, source


def _try_again(
    crawling: _Crawling, folder: Path, standing: retry.Standing, again: retry.Pass, settings: FetchParams
) -> None:
    """Tries the rows of a further pass, whose shards come after those that are there."""
    rows = retry.take_failures(folder, standing, again)
    if not rows.num_rows:
        return
    home = folder / again.folder
    asked, listed = retry.prepare(home, rows), notes_folder(home) / "urls.parquet"
    if not listed.exists():
        write_list(listed, asked, settings.images_per_shard)
    # Most of what did not answer once will not answer again.
    patient = settings.model_copy(update={"minimum_yield": 0.0})
    first = len(standing.shards)
    for position, name in enumerate(sorted(crawling.complete(home, listed, patient))):
        target = f"{first + position:05d}"
        if known_shard(folder, target) is None or not _same_tar(home, name, folder, target):
            retry.link_shard(home, name, folder, target)
        standing.shards[target] = known_shard(folder, target) or settle(
            folder, target, asked_rows(pq.ParquetFile(listed), position)
        )
        standing.of_shard[target] = standing.passes


def _same_tar(home: Path, name: str, folder: Path, target: str) -> bool:
    return shard_files(home, name)[0].samefile(shard_files(folder, target)[0])


@dataclass
class _Crawling:
    """What both passes of a crawl share; the origin of the pictures is started when the first of them is missing."""

    corpus: str
    stack: ExitStack
    serve: AbstractContextManager[None]
    home: Path | None
    serving: bool = False

    def complete(self, folder: Path, listed: Path, settings: FetchParams) -> dict[str, Shard]:
        """All shards of a list, fetched where they are missing."""
        table = pq.ParquetFile(listed)
        done: dict[str, Shard] = {}
        missing: dict[str, int] = {}
        for position in range(table.num_row_groups):
            name = f"{position:05d}"
            shard = _completed(folder, name, table, position, settings)
            state = state_of(asked_rows(table, position), self.home) if self.home is not None else None
            if state is not None and state != (before := seen_state(folder, name)):
                if shard is not None and before is not None:
                    logger.info("%s: files of shard %s have changed since they were read", self.corpus, name)
                    forget_shard(folder, name)
                    shard = None
                note_state(folder, name, state)
            if shard is None:
                missing[name] = position
            else:
                done[name] = shard
        if not missing:
            return done
        logger.info("%s: %d of %d shards to fetch", self.corpus, len(missing), table.num_row_groups)
        if not self.serving:
            self.stack.enter_context(self.serve)
            self.serving = True
        shards = crawl(folder, listed, missing, settings, self.home)
        for shard in track(shards, f"{self.corpus} shards", len(missing)):
            done[shard.name] = shard
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
