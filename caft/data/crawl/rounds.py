"""The rounds in which the rows of a folder of image shards were asked: the first list, and what came later.

Each further round has a folder of its own, whose shards are linked into that of all under the next numbers. Its list is
written before the round is recorded, and never again, so that a killed round is completed as it was begun.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from caft.data.crawl.listing import list_of, read_source, write_list
from caft.data.crawl.manifest import notes_folder, shard_files
from caft.storage import replacing, write_json

Why = Literal["first", "new", "second_pass", "retry"]


@dataclass(frozen=True)
class Round:
    """A round.

    Attributes:
        folder: Of its shards, below that of all; empty for the first round.
        why: The first list; rows that are new or whose own file changed; what failed for a passing reason; or on request.
        images_per_shard: Rows of each of its shards but the last.
        shards: Their number.
        first: The number of its first shard in the folder of all.
    """

    folder: str
    why: Why
    images_per_shard: int
    shards: int
    first: int = 0

    def home(self, folder: Path) -> Path:
        """Folder of the round's shards."""
        return folder / self.folder

    def names(self, position: int) -> tuple[str, str]:
        """Names of its shard at a position of its list: in its own folder, and in that of all."""
        return f"{position:05d}", f"{self.first + position:05d}"

    def sizes(self, folder: Path) -> list[int] | None:
        """Rows of each shard by its list; None if that is lost."""
        path = list_of(self.home(folder))
        if not path.exists():
            return None
        table = pq.read_metadata(path)
        return [table.row_group(position).num_rows for position in range(table.num_row_groups)]


def read_rounds(folder: Path) -> list[Round]:
    """The rounds of a folder that was begun, in order, also of one written before they were recorded."""
    record = _record(folder)
    entries: list[dict[str, Any]]
    if record.exists():
        entries = json.loads(record.read_text())["rounds"]
    else:
        size = read_source(folder)["images_per_shard"]
        entries = [_entry(folder, "", "first", size)]
        entries += [
            _entry(folder, name, why, size) for name, why, _ in _older(folder) if _has_list(folder / name, size)
        ]
    rounds: list[Round] = []
    for entry in entries:
        rounds.append(Round(**entry, first=sum(before.shards for before in rounds)))
    return rounds


def unbegun_request(folder: Path) -> list[str] | None:
    """Causes for which `--retry` was asked in a folder of before, if a kill came before it had begun; else None."""
    if _record(folder).exists():
        return None
    requests = [(name, causes) for name, why, causes in _older(folder) if why == "retry"]
    if not requests:
        return None
    name, causes = requests[-1]
    return None if (folder / name).exists() else causes


def begin_round(
    folder: Path, why: Why, rows: str, values: Mapping[str, Any], images_per_shard: int, memory_gb: int
) -> Round | None:
    """Writes the list of a further round, and records it.

    Args:
        folder: Folder of the shards.
        why: What it is for.
        rows: A query that gives row_id and url of its rows.
        values: Its parameters.
        images_per_shard: Rows of its shards.
        memory_gb: What the query may hold before it uses the disk, in gigabytes.

    Returns:
        The round; None if there are no rows.
    """
    before = read_rounds(folder)
    name = f"round-{len(before)}"
    shutil.rmtree(folder / name, ignore_errors=True)  # of one that was never recorded
    write_list(folder / name, rows, values, images_per_shard, memory_gb)
    entry = _entry(folder, name, why, images_per_shard)
    if not entry["shards"]:
        shutil.rmtree(folder / name)
        return None
    known = [{key: value for key, value in asdict(one).items() if key != "first"} for one in before]
    write_json(_record(folder), {"rounds": [*known, entry]})
    return read_rounds(folder)[-1]


def link_shard(home: Path, name: str, folder: Path, target: str) -> None:
    """Links the files of a shard into another folder, under another name."""
    for source, file in zip(shard_files(home, name), shard_files(folder, target), strict=True):
        with replacing(file) as temporary:
            os.link(source, temporary)


def _entry(folder: Path, name: str, why: Why, images_per_shard: int) -> dict[str, Any]:
    shards = pq.read_metadata(list_of(folder / name)).num_row_groups
    return {"folder": name, "why": why, "images_per_shard": images_per_shard, "shards": shards}


def _older(folder: Path) -> list[tuple[str, Why, list[str]]]:
    """Folder, kind and causes of the passes after the first, as they were recorded before there were rounds."""
    found: list[tuple[str, Why, list[str]]] = [("again", "second_pass", [])]
    record = notes_folder(folder) / "again.json"
    if record.exists():
        held = json.loads(record.read_text())
        asked = held if isinstance(held, list) else held["asked"]
        found += [(f"again-{number}", "retry", causes) for number, causes in enumerate(asked, 1)]
    return found


def _has_list(home: Path, images_per_shard: int) -> bool:
    """Whether a pass of before has begun; its list, if it lacks it yet, is written of its table."""
    listed, asked = list_of(home), notes_folder(home) / "asked.parquet"
    if not listed.exists() and asked.exists():
        rows = "SELECT row_id, url FROM read_parquet($asked)"
        write_list(home, rows, {"asked": str(asked)}, images_per_shard, 1)
    return listed.exists()


def _record(folder: Path) -> Path:
    return notes_folder(folder) / "rounds.json"
