"""A name for what a folder of image shards gives, beside what stages depend on: own files, and what is done by hand.

DVC knows nothing of either, and would take what a stage gave before from its cache. The stage `look` shows it this name, which
is a new one after every such change, and lies beside the images, so that all checkouts and experiments that share them see it.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from caft.data.crawl.manifest import notes_folder
from caft.storage import write_json


class Announced(NamedTuple):
    """The name, and the changes of own files that it stands for and that were not read yet, as digests."""

    name: str | None
    change: frozenset[str] = frozenset()


def read_announced(folder: Path, before: str | None = None) -> Announced:
    """What was announced last of a folder of image shards.

    Args:
        folder: Folder of the shards.
        before: The name where the folder has none.
    """
    try:
        held = json.loads(_record(folder).read_text(encoding="utf-8"))
        return Announced(held["announced"], frozenset(held["change"]))
    except (OSError, ValueError, LookupError, TypeError):
        return Announced(before)


def note_announced(folder: Path, announced: Announced) -> None:
    """Writes down what is announced."""
    write_json(_record(folder), {"announced": announced.name, "change": sorted(announced.change)})


def next_name(name: str | None, lines: Iterable[str]) -> str:
    """The name after some changes."""
    return hashlib.sha256("".join(f"{line}\n" for line in (name, *sorted(lines))).encode()).hexdigest()


def announce(folder: Path) -> None:
    """Gives the folder a new name, before something is done to it by hand: a kill in between costs one look at it."""
    last = read_announced(folder)
    note_announced(folder, last._replace(name=next_name(last.name, [uuid.uuid4().hex])))


def announce_read(folder: Path, change: frozenset[str]) -> None:
    """Announces changes of own files that are about to be read, if `look` has not seen them before.

    As where a stage restores a lost shard, or a fetch by hand: the files would then be as they were read, and no stage would
    run for what came of them.
    """
    last = read_announced(folder)
    if change - last.change:
        note_announced(folder, Announced(next_name(last.name, change), last.change | change))


def _record(folder: Path) -> Path:
    return notes_folder(folder) / "announced.json"
