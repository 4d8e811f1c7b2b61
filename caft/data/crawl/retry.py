"""Further passes of a crawl: rows that failed are fetched once more, into shards of their own.

img2dataset only tries again at once, which is no use against a server that is busy or down for a while. Here rows that
failed for a transient reason are tried after all others, and what a user asks for with `--retry`, in passes that the folder
remembers. Each row counts where it was tried last.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from caft.data.crawl.causes import cause_of
from caft.data.crawl.manifest import Shard, notes_folder, shard_files
from caft.data.crawl.shards import SUCCESS
from caft.errors import DataError
from caft.storage import replacing, write_json

logger = logging.getLogger(__name__)
# Of 4xx, too many requests, and those that servers give when they were slow. Dead links stay dead.
OPT_OUT = "opt_out"
PASSING = {"timeout", "unreachable", "cut_short", "http_408", "http_425", "http_429"}


def is_transient(cause: str) -> bool:
    """Whether a retry may succeed where the first pass failed for this cause."""
    return cause in PASSING or cause.startswith("http_5")


@dataclass(frozen=True)
class Pass:
    """A pass after the first: the folder of its shards, below that of all, and what it tries again.

    `causes` are those of `caft.data.crawl.causes`; empty, every cause but an owner's refusal; None, the transient ones.
    """

    folder: str
    causes: tuple[str, ...] | None

    def tries(self, cause: str) -> bool:
        """Whether rows that were lost for a cause are tried again."""
        if self.causes is None:
            return is_transient(cause)
        return cause != OPT_OUT and (not self.causes or cause in self.causes)


def passes(folder: Path, second_pass: bool) -> list[Pass]:
    """The passes after the first, in order: the second, and those that were asked for.

    Once one was asked for, there is a second pass if there was one then: else the rows of those after it became others.
    """
    second, asked = _recorded(folder, second_pass)
    if second != second_pass:
        logger.info("%s: fetch.second_pass stays %s, as when --retry was first given", folder, str(second).lower())
    again = [Pass(f"again-{number}", tuple(causes)) for number, causes in enumerate(asked, 1)]
    return [Pass("again", None), *again] if second else again


def further_pass(folder: Path, shards: Mapping[str, Shard], causes: Sequence[str], second_pass: bool) -> Pass | None:
    """Records a pass asked for after those of `passes`, so that a killed one is completed; None if it has no row to try.

    Raises:
        DataError: One of the causes is that of no row, or an owner's refusal, which is not asked about again.
    """
    lost = {cause for shard in shards.values() for cause in shard.lost}
    if wrong := [cause for cause in causes if cause == OPT_OUT or cause not in lost]:
        raise DataError(
            f"{folder}: no row to try again for {', '.join(wrong)}; rows are lost for {', '.join(sorted(lost)) or 'nothing'}"
            f"{f', of which {OPT_OUT} is not asked about again' if OPT_OUT in lost else ''}"
        )
    second, before = _recorded(folder, second_pass)
    found = Pass(f"again-{len(before) + 1}", tuple(causes))
    if not any(map(found.tries, lost)):
        return None
    write_json(_record(folder), {"second_pass": second, "asked": [*before, list(causes)]})
    return found


@dataclass
class Standing:
    """Where the rows of a crawl count after its passes so far.

    Attributes:
        shards: Entries by name, without the rows that a later pass has tried.
        passes: How many further passes there were.
        of_shard: Which of them a shard is of; one of the first pass is not in it.
        of_row: Which of them tried a row last, by row id; one that was tried once is not in it.
    """

    shards: dict[str, Shard]
    passes: int = 0
    of_shard: dict[str, int] = field(default_factory=dict)
    of_row: dict[int, int] = field(default_factory=dict)

    def counts_in(self, row: int, name: str) -> bool:
        """Whether a row was tried last in a shard, in which it is."""
        return self.of_row.get(row, 0) == self.of_shard.get(name, 0)


def take_failures(folder: Path, standing: Standing, again: Pass) -> pa.Table:
    """Finds the rows that a pass tries, and takes them out of the entries of their shards.

    Args:
        folder: Folder of the shards.
        standing: After the passes before; changed.
        again: The pass.

    Returns:
        row_id and url of the rows.
    """
    found: list[tuple[int, str]] = []
    for name, shard in sorted(
        standing.shards.items()
    ):  # not as they were completed: the list must be the same each time
        left = Counter(shard.lost)
        if not any(map(again.tries, left)):
            continue
        table = pq.read_table(shard_files(folder, name)[1], columns=["row_id", "url", "status", "error_message"])
        for row in table.to_pylist():
            if row["status"] == SUCCESS or not standing.counts_in(row["row_id"], name):
                continue
            if again.tries(cause := cause_of(row["status"], row["error_message"])):
                found.append((row["row_id"], row["url"]))
                left[cause] -= 1
        lost = {cause: left[cause] for cause in shard.lost if left[cause]}
        standing.shards[name] = replace(shard, rows=shard.successes + sum(lost.values()), lost=lost)
    if found:
        standing.passes += 1
        standing.of_row |= {row: standing.passes for row, _ in found}
    rows, urls = zip(*found, strict=True) if found else ((), ())
    return pa.table({"row_id": pa.array(rows, pa.int64()), "url": pa.array(urls, pa.string())})


def prepare(home: Path, rows: pa.Table) -> Path:
    """Prepares the folder of a further pass, in which shards of other rows are removed; returns the table of its rows."""
    asked = notes_folder(home) / "asked.parquet"
    if asked.exists() and not pq.read_table(asked).equals(rows):
        shutil.rmtree(home)
    if not asked.exists():
        with replacing(asked) as temporary:
            pq.write_table(rows, temporary)
    return asked


def link_shard(home: Path, name: str, folder: Path, target: str) -> None:
    """Links the files of a retried shard into the folder of the shards, under a new number."""
    for source, file in zip(shard_files(home, name), shard_files(folder, target), strict=True):
        with replacing(file) as temporary:
            os.link(source, temporary)


def _recorded(folder: Path, second_pass: bool) -> tuple[bool, list[list[str]]]:
    """Whether the folder has a second pass, which is as set until a pass is asked for, and the causes of those asked for."""
    record = _record(folder)
    if not record.exists():
        return second_pass, []
    held = json.loads(record.read_text())
    if isinstance(held, list):  # of before it told of the second pass
        return (folder / "again").exists(), held
    return held["second_pass"], held["asked"]


def _record(folder: Path) -> Path:
    return notes_folder(folder) / "again.json"
