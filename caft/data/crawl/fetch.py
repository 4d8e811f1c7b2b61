"""Fetches the images of a corpus and accounts for every address: an image, or the cause of its loss.

A folder of shards is added to and never made anew: what is whole is never fetched again, what is not whole is, and so is
what an edit of the table has added.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from caft.data.crawl.counted import first_lost, write_lost
from caft.data.crawl.crawl import asked_rows
from caft.data.crawl.crawling import Crawling
from caft.data.crawl.decoding import warn_if_older
from caft.data.crawl.erase import erase_pictures
from caft.data.crawl.images import begin_first, note_files
from caft.data.crawl.images import fetch_images as fetch_images
from caft.data.crawl.listing import is_begun, list_of
from caft.data.crawl.manifest import NOT_THERE, Manifest, known_shard, note_shard, notes_folder, verify
from caft.data.crawl.own import FILE
from caft.data.crawl.packed import link_packed
from caft.data.crawl.rounds import link_shard
from caft.data.scenes.server import serving
from caft.digests import file_digest
from caft.errors import DataError, ManifestError
from caft.locking import locked
from caft.params import Params
from caft.params.corpora import CorpusParams, CustomCorpus, ScenesCorpus
from caft.storage import images_folder, in_checkout, read_json, replacing, write_json

logger = logging.getLogger(__name__)
FOLDER = Path("data/images")
_SHOWN = 5  # lost pictures that an error names


def fetch(params: Params, corpus: str, urls: Path, again: Sequence[str] | None = None) -> dict[str, Any]:
    """Completes the images of a corpus, writes where each row counts and which are lost, and returns the manifest.

    Args:
        params: Settings.
        corpus: A key of the table `corpus`.
        urls: Table of the source stage.
        again: Causes of which lost rows are tried once more; empty, of all but an owner's refusal; None, only what is missing.

    Returns:
        The content of the manifest's file: nothing in it depends on when or how often it ran.

    Raises:
        DataError: Shards could not be completed, too few images came, or the folder's were made with other settings.
    """
    manifest = _complete(params, corpus, urls, again, _counted_in(corpus))
    publish(params, manifest)
    return manifest.as_json()


def erase(params: Params, corpus: str, urls: Path) -> dict[str, Any]:
    """Removes pictures that count for no row of the table from the tars, and returns the manifest as `fetch` does.

    The arguments are those of `fetch`.

    Raises:
        DataError: The tars are others', the folder holds no images or is not complete, or as `fetch`.
    """
    if (packed := _packed(params.corpus[corpus])) is not None:
        raise DataError(
            f"{corpus}: its images are packed in {packed}, tars that others have written and that are only read here; take "
            "pictures out of them by their own tools, and run `dvc repro`"
        )
    folder = images_folder(params, corpus)
    if not is_begun(folder):
        raise DataError(f"{folder}: holds no images that could be erased; run `dvc repro fetch@{corpus}` to fetch them")
    logger.info("%s: rewrote %d shards", corpus, erase_pictures(corpus, urls, folder, params.storage.memory_gb))
    return fetch(params, corpus, urls)


def publish(params: Params, manifest: Manifest) -> None:
    """Writes ``data/images/<corpus>.lost.csv`` from the table beside it, which says where each row counts.

    Raises:
        DataError: Too few images came. The file is there all the same.
    """
    corpus, memory = manifest.corpus, params.storage.memory_gb
    counted, lost = _counted_in(corpus), FOLDER / f"{corpus}.lost.csv"
    write_lost(counted, lost, notes_folder(images_folder(params, corpus)), memory)
    entry, least, few = (
        params.corpus[corpus],
        params.fetch_for(corpus).minimum_yield,
        manifest.rows - manifest.successes,
    )
    first = first_lost(counted, _SHOWN, memory)
    if few and isinstance(entry, CustomCorpus) and entry.fetch.minimum_yield is None and first[0][1].startswith(FILE):
        least = 1.0
    if manifest.successes >= least * manifest.rows:
        return
    if first[0][1].startswith(FILE):
        names = ", ".join(f"{name} ({cause})" for name, _, cause in first)
        raise DataError(
            f"{corpus}: {few} of {manifest.rows} pictures are lost: {manifest.lost}; the first are {names}, and all are in "
            f"{lost}. Mend the files or the table and run `dvc repro` again; to go on without them, set "
            f"corpus.{corpus}.fetch.minimum_yield to the least share that must be there (it is {least:g})"
        )
    raise DataError(
        f"{corpus}: {manifest.successes} of {manifest.rows} images came "
        f"({manifest.successes / manifest.rows:.1%}), the least allowed is {least:.0%} "
        f"(fetch.minimum_yield). Losses by cause: {manifest.lost}; all are in {lost}. To try lost ones again, run "
        f"`python -m pipelines.fetch {corpus} --retry` (causes after it choose); to accept them, lower fetch.minimum_yield"
    )


def fetch_part(params: Params, corpus: str, urls: Path, part: int, parts: int) -> None:
    """Fetches every `parts`-th shard of a corpus' first list that is missing, so that several machines share the work.

    `fetch` then finds these shards whole, asks for rows of later lists, tries once more what failed for now, and gives the
    manifest.

    `part` counts from 0; the other arguments are those of `fetch`.

    Raises:
        DataError: As `fetch`.
    """
    entry, memory = params.corpus[corpus], params.storage.memory_gb
    if _packed(entry) is not None:
        return  # nothing is fetched
    folder, settings = images_folder(params, corpus).resolve(), params.fetch_for(corpus)
    _warn_if_older(entry, corpus, folder)
    with locked(folder, "fetching into it"):
        size = begin_first(corpus, urls, folder, settings, memory)["images_per_shard"]
    settings, files_home = settings.model_copy(update={"images_per_shard": size}), pictures_home(entry)

    def note(files: list[str]) -> None:
        with locked(folder, "noting what is read"):
            note_files(folder, 0, files_home, files)

    home = folder / f"parts/{part}-of-{parts}"
    with locked(home, "fetching this part"), ExitStack() as stack:
        own = home / "shards"
        positions = _positions_of_part(folder, own, list_of(folder), part, parts)
        crawling = Crawling(corpus, stack, origin(entry), files_home)
        for place, shard in sorted(crawling.complete(own, range(len(positions)), settings, note).items()):
            target = f"{positions[place]:05d}"
            if known_shard(folder, target) is None:
                link_shard(own, shard.name, folder, target)
                note_shard(folder, replace(shard, name=target))


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
        replacing(list_of(own)) as temporary,
        pq.ParquetWriter(temporary, table.schema_arrow, compression="zstd") as writer,
    ):
        for position in missing:
            writer.write_table(asked_rows(table, position))
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
    if expected.rounds and not is_begun(folder):
        raise ManifestError(
            f"{folder}: holds no images, and those that {where} describes came in {len(expected.rounds)} rounds, as the table "
            f"was edited or lost rows were tried again, which cannot be repeated shard by shard. To fetch all images of the "
            f"table of now, run `dvc repro --force fetch@{corpus}`"
        )
    urls = Path(f"data/urls/{corpus}.parquet")
    if not urls.exists():
        raise ManifestError(
            f"{folder}: {len(problems)} of the {len(expected.shards)} shards in {where} {_summed(problems)}; and {urls}, "
            f"which would say what to fetch, is missing too; run `dvc checkout {urls}` or `dvc repro source@{corpus}`"
        )
    logger.warning(
        "%s: %d of %d shards in %s %s", folder, len(problems), len(expected.shards), where, _summed(problems)
    )
    _complete(params, corpus, urls)
    if problems := verify(expected, folder):
        name, problem = next(iter(problems.items()))
        raise ManifestError(
            f"{folder}: {len(problems)} shards are not those that {where} describes, the first is {name}: {problem}. "
            "Pictures have changed where they come from, or another fetch has filled the folder. To go on with what "
            f"is there now, run `dvc repro --force fetch@{corpus}`"
        )


def _summed(problems: Mapping[str, str]) -> str:
    """What is wrong with shards, in a line."""
    changed = {name: problem for name, problem in problems.items() if not problem.endswith(NOT_THERE)}
    if not changed:
        return "are not there"
    name, problem = next(iter(changed.items()))
    gone = f", and {len(problems) - len(changed)} are not there" if len(changed) < len(problems) else ""
    return f"are not as they were when they were read: {name}: {problem}" + (
        f" ({len(changed)} like this{gone})" if len(problems) > 1 else ""
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


def _counted_in(corpus: str) -> Path:
    return FOLDER / f"{corpus}.parquet"


def _complete(
    params: Params, corpus: str, urls: Path, again: Sequence[str] | None = None, keep: Path | None = None
) -> Manifest:
    """Completes a corpus' images from where its settings say that they are; `keep` is as for `fetch_images`."""
    entry, folder, settings = params.corpus[corpus], images_folder(params, corpus), params.fetch_for(corpus)
    if (packed := _packed(entry)) is not None:
        if again is not None:
            raise DataError(
                f"{corpus}: its images are packed in {packed}, where nothing is fetched that could be tried again"
            )
        return link_packed(corpus, urls, in_checkout(packed), folder, params.storage.memory_gb, keep)
    _warn_if_older(entry, corpus, folder)
    memory = params.storage.memory_gb
    return fetch_images(corpus, urls, folder, settings, origin(entry), pictures_home(entry), again, memory, keep)


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
