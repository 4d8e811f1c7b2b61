"""Looks at what stands at the paths that settings name and DVC does not watch, for the stages that depend on it.

A table may have 30 GB, pictures and tars lie on other disks, and an experiment's copy has none of them. So one stage, which
runs each time, writes a small file for each such input, and the stages that read the input depend on that file. A file is
read again only if its size, time of change or inode is another, and counts by its content; folders count by names, sizes and
times. What is not there keeps its entry: after `dvc pull` nothing asks for a table that nobody needs any more.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from caft.data.crawl import own
from caft.data.crawl.announced import Announced, next_name, note_announced, read_announced
from caft.errors import CheckpointError
from caft.params import Params
from caft.params.corpora import CorpusParams, CustomCorpus, ScenesCorpus
from caft.params.sets import BenchmarkParams
from caft.pictures.litter import is_litter
from caft.progress import track
from caft.storage import images_folder, in_checkout, replacing, scratch_folder, write_json

logger = logging.getLogger(__name__)
Entry = dict[str, Any]

_MISSING: Entry = {"missing": True}
_BLOCK = 2**20
# Within it a file may change again without another time of change: of some file systems that is their step.
_STEP_NS = 2_000_000_000
# What reading a set writes beside it (caft/data/sets/referring.py).
_KEPT_TABLE = re.compile(r"refs\(.*\)\.parquet")


def look(params: Params, seen: Path, of_setting: Callable[[str], Path] = in_checkout) -> None:
    """Writes what the inputs of the settings are now, each as a file of JSON; one that says so already is left.

    `<corpus>.table.json` is of the table of a selected corpus. `<corpus>.images.json` is of its pictures, and of those that are
    fetched by address it names what was done by hand. `superpixels.json` and `init.json` are of given weights, `sets.json` of
    the evaluation sets outside `data/benchmarks`, and `unsupported.json` of the tables that say which sentences to leave out.

    Args:
        params: Settings.
        seen: The folder of these files.
        of_setting: Finds the file of `init`, which may have a name on a hub.
    """
    notes = _Notes(scratch_folder(params, "look") / "files.json")
    before = {path.name: _read(path) for path in seen.glob("*.json")}
    entries: dict[str, Entry] = {}
    for name in params.corpora:
        corpus = params.corpus[name]
        table, images = f"{name}.table.json", f"{name}.images.json"
        path = _table(corpus)
        entries[table] = notes.entry(path, before.get(table, {})) if path is not None else {"rendered": True}
        entries[images] = _images(params, name, corpus, before.get(images, {}))
    for name, given, none, find in (
        ("superpixels", params.superpixels.checkpoint, "trained", in_checkout),
        ("init", params.init, "random", of_setting),
    ):
        file = f"{name}.json"
        entries[file] = notes.entry(given, before.get(file, {}), find) if given else {none: True}
    entries["sets.json"] = _sets(params)
    folder, unsupported = params.data.exclude_unsupported, "unsupported.json"
    entries[unsupported] = notes.tables(folder, before.get(unsupported, {})) if folder else {"all": True}
    # Those of other corpora stay for when they are selected again.
    if before != (after := before | entries):
        with replacing(seen) as temporary:
            for name, entry in after.items():
                write_json(temporary / name, entry)


def _table(corpus: CorpusParams) -> str | None:
    if isinstance(corpus, ScenesCorpus):
        return None
    return corpus.table if isinstance(corpus, CustomCorpus) else corpus.csv


def _read(path: Path) -> Entry:
    """Content of a file of JSON; nothing where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")).hexdigest()


def _state(state: os.stat_result) -> str:
    return f"{state.st_size} {state.st_mtime_ns}"


# ---- files, by their content


class _Notes:
    """Digests of files, with the states in which they were read; all checkouts of a storage root share them.

    Args:
        path: Where they are kept; it may be deleted.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def entry(self, given: str, before: Entry, of_setting: Callable[[str], Path] = in_checkout) -> Entry:
        """Name and SHA-256 of a user's file; where it is not there, the entry from before, if that has them.

        What is no file counts as missing: the stage that reads it says what it is.
        """
        try:
            path = of_setting(given)
            if not stat.S_ISREG(path.stat().st_mode):
                return _MISSING
            return {"name": path.name, "sha256": self._sha256(path)}
        except (OSError, ValueError, CheckpointError) as error:
            if "sha256" not in before:
                return _MISSING
            logger.info("%s: %s; what was seen of it before counts", given, getattr(error, "strerror", error))
            return before

    def tables(self, given: str, before: Entry) -> Entry:
        """SHA-256 of each Parquet file below a user's folder; without any, the entry from before, if that has them."""
        folder = in_checkout(given)
        found = {path.relative_to(folder).as_posix(): self._sha256(path) for path in sorted(folder.rglob("*.parquet"))}
        if found or "tables" not in before:
            return {"tables": found} if found else _MISSING
        logger.info("%s: holds no table; what was seen of it before counts", given)
        return before

    def _sha256(self, path: Path) -> str:
        path = path.resolve()
        began, before = time.time_ns(), path.stat()
        state = [before.st_size, before.st_mtime_ns, before.st_ino]
        noted = _read(self._path).get(str(path), {})
        if noted.get("state") == state:
            return str(noted["sha256"])
        digest = hashlib.sha256()
        with path.open("rb") as file:
            blocks = iter(functools.partial(file.read, _BLOCK), b"")
            for block in track(blocks, f"MiB of {path.name}", -(-before.st_size // _BLOCK)):
                digest.update(block)
        after = path.stat()
        settled = abs(began - before.st_mtime_ns) > _STEP_NS
        if settled and [after.st_size, after.st_mtime_ns, after.st_ino] == state:
            self._note(path, {"state": state, "sha256": digest.hexdigest()})
        return digest.hexdigest()

    def _note(self, path: Path, note: Entry) -> None:
        try:
            write_json(self._path, {**_read(self._path), str(path): note})
        except OSError as error:
            logger.warning("%s: cannot be written (%s); %s is read again next time", self._path, error.strerror, path)


# ---- pictures


def _images(params: Params, name: str, corpus: CorpusParams, before: Entry) -> Entry:
    if not isinstance(corpus, ScenesCorpus) and corpus.packed is not None:
        return _tars(corpus.packed, before)
    folder = images_folder(params, name)
    if isinstance(corpus, CustomCorpus):
        return {"from": "files", "announced": _announced(folder, name, corpus, before.get("announced"))}
    announced = read_announced(folder, before.get("announced")).name
    return {"from": "addresses"} | ({"announced": announced} if announced else {})


def _tars(packed: str, before: Entry) -> Entry:
    """Names, sizes and times of packed tars, as a digest."""
    lines = []
    try:
        for tar in sorted(in_checkout(packed).glob("*.tar")):
            lines.append(f"{tar.name} {_state(tar.stat())}")
    except (OSError, ValueError) as error:
        lines.append(str(getattr(error, "strerror", error)))  # fetch says which
    if lines:
        return {"from": "tars", "state": _digest(lines)}
    if "state" not in before:
        return _MISSING
    logger.info("%s: holds no tar; what was seen of it before counts", packed)
    return before


def _announced(folder: Path, name: str, corpus: CustomCorpus, before: str | None) -> str | None:
    """A name for the state of a user's picture files, which is a new one whenever they are not as `fetch` has read them.

    It stays as it is after the change, or a part of it, has been read.
    """
    last = read_announced(folder, before)
    noted = own.read_states(folder)
    home = in_checkout(corpus.table).resolve().parent
    found = own.look_at(track(noted, f"{name} files"), home)
    # Where none is there, a disk is not: what was read of it is kept.
    lines = own.changes(noted, found) if any(found.values()) else frozenset()
    if lines != last.change:  # what is no change any more was read, or taken back, and may be made once more
        new = next_name(last.name, lines) if lines - last.change else last.name
        last = Announced(new, lines)
        note_announced(folder, last)
    return last.name


# ---- evaluation sets


def _sets(params: Params) -> Entry:
    """By name, a digest of the files of each evaluation set that lie elsewhere than in this checkout's `data/benchmarks`.

    Also of those behind a link to a folder, which DVC does not follow; and in an experiment's copy, which has no set that a
    user put there, of the main checkout's.
    """
    brought = [("data", "benchmarks", name) for name in params.corpora]  # outs of `source`
    watched = Path.cwd() / "data/benchmarks"
    digests: dict[tuple[Path, ...], str | None] = {}  # several sets may share a folder
    for benchmark in params.benchmarks.values():
        if Path(benchmark.path).parts[:3] not in brought:
            folders = _folders(benchmark)
            if folders not in digests:
                lines = list(track(_lines(folders, watched), f"files of {benchmark.path}"))
                digests[folders] = _digest(lines) if lines else None
    found = {name: digests.get(_folders(benchmark)) for name, benchmark in params.benchmarks.items()}
    return {name: digest for name, digest in found.items() if digest is not None}


def set_state(benchmark: BenchmarkParams) -> str | None:
    """A digest of names, sizes and times of all files from which a set is read; None without its folder."""
    folders = _folders(benchmark)
    return _digest(_lines(folders, None)) if os.path.isdir(folders[0]) else None


def _folders(benchmark: BenchmarkParams) -> tuple[Path, ...]:
    """Folders from which a set is read: its own, and those beside it where its layout looks for pictures."""
    try:
        folder = in_checkout(benchmark.path)
    except OSError:  # the set's reader says more
        folder = Path(benchmark.path)
    beside = [(folder.parent / name, folder / ".." / name) for name in benchmark.beside]  # not the same behind a link
    return (folder, *(place for both in beside for place in both))


def _lines(folders: Iterable[Path], watched: Path | None) -> Iterator[str]:
    """Name, size and time of every file of some folders, but of those that lie in `watched`."""
    walked: set[str] = set()
    for folder in folders:
        if os.path.isdir(folder):
            yield from _walk(str(folder), folder.name, watched, walked)


def _walk(folder: str, name: str, watched: Path | None, walked: set[str]) -> Iterator[str]:
    """As `_lines`, of one folder, which has a name; links are followed, and each folder is walked once."""
    real = os.path.realpath(folder)
    counts = watched is None or not Path(real).is_relative_to(watched)
    if real in walked:
        if counts:
            yield f"{name} again"
        return
    walked.add(real)
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        yield f"{name} {error.strerror}"  # the set's reader says more
        return
    for entry in entries:
        if is_litter(entry.name) or _KEPT_TABLE.fullmatch(entry.name):
            continue
        try:
            if entry.is_dir():
                yield from _walk(entry.path, f"{name}/{entry.name}", watched, walked)
            elif counts:
                yield f"{name}/{entry.name} {_state(entry.stat())}"
        except OSError as error:
            yield f"{name}/{entry.name} {error.strerror}"
