"""Removes pictures that count for no row of the table from the tars of a folder, with all that is noted of them.

A shard is written anew aside, and moved into place once it is whole; what a kill leaves aside is moved by the next run. A list
is written anew after its shards, of the rows that they still have, so that none that went is ever asked for again.
"""

from __future__ import annotations

import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caft.data.crawl.announced import announce
from caft.data.crawl.counted import count_rows, tables_of
from caft.data.crawl.listing import list_of, rewrite_list
from caft.data.crawl.manifest import forget_note, forget_shard, known_shard, note_shard, notes_folder, shard_files
from caft.data.crawl.own import note_states, read_states
from caft.data.crawl.rounds import Round, link_shard, read_rounds
from caft.data.crawl.shards import SUCCESS, settle
from caft.data.crawl.tars import members
from caft.data.tables.database import bounded
from caft.errors import DataError
from caft.locking import locked
from caft.progress import track
from caft.storage import replacing, write_json

_ASIDE = "erasing-"


def erase_pictures(corpus: str, urls: Path, folder: Path, memory_gb: int) -> int:
    """Rewrites the tars without pictures that count nowhere: of rows that went, and of files that were read again since.

    Args:
        corpus: Name of the corpus.
        urls: Table of the source stage.
        folder: Folder of the shards, which was begun.
        memory_gb: What a query may hold before it uses `folder`, in gigabytes.

    Returns:
        From how many shards something was removed.

    Raises:
        DataError: Some rows of the table were not asked for yet.
    """
    folder = folder.resolve()
    with locked(folder, "erasing pictures in it"):
        finish_erasing(folder)
        rounds = read_rounds(folder)
        every = [one.names(position)[1] for one in rounds for position in range(one.shards)]
        names = [name for name in every if known_shard(folder, name)]
        counted, gone = count_rows(urls, folder, names, memory_gb), notes_folder(folder) / "gone.parquet"
        if unasked := pq.read_table(counted, columns=["shard"])["shard"].null_count:
            raise DataError(
                f"{folder}: {unasked} rows of {urls} were not asked for yet, or their shards are lost; run "
                f"`dvc repro fetch@{corpus}` to complete the folder, and then this again"
            )
        touched = _find_gone(counted, tables_of(folder, names), gone, memory_gb)
        if touched:
            announce(folder)
        for name in track(touched, f"{corpus} shards", len(touched)):
            keys = pq.read_table(gone, columns=["key"], filters=[("shard", "=", name)])["key"].combine_chunks()
            _write_aside(folder, name, keys)
            finish_erasing(folder)
        shutil.rmtree(folder / "parts", ignore_errors=True)  # where machines that share the work have links and lists
        for one in rounds:
            for own, name in map(one.names, range(one.shards)):
                if name not in names:  # not whole, and no row counts in it
                    forget_shard(folder, name)
                    forget_shard(one.home(folder), own)
            _rewrite_list(folder, one)
        if states := read_states(folder):
            kept = set(pq.read_table(counted, columns=["url"])["url"].to_pylist())
            note_states(folder, {url: state for url, state in states.items() if url in kept})
        gone.unlink()
    return len(touched)


def finish_erasing(folder: Path) -> None:
    """Puts shards that were written aside into place, also where they are in the folder of their round."""
    for aside in sorted(notes_folder(folder).glob(f"{_ASIDE}*")):
        name = aside.name.removeprefix(_ASIDE)
        forget_note(folder, name)
        link_shard(aside, name, folder, name)
        shard = settle(folder, name, pq.read_table(shard_files(folder, name)[1], columns=["row_id", "url"]))
        one = next(one for one in reversed(read_rounds(folder)) if one.first <= int(name))
        own, _ = one.names(int(name) - one.first)
        if one.folder and one.home(folder).is_dir():
            link_shard(folder, name, one.home(folder), own)
            note_shard(one.home(folder), replace(shard, name=own))
        shutil.rmtree(aside)


def _find_gone(counted: Path, tables: list[str], target: Path, memory_gb: int) -> list[str]:
    """Writes shard and key of the rows to be removed; returns the shards.

    They are those of no row of the table, and pictures in whose place others count. What failed and was asked again stays:
    it says how often that was.
    """
    with replacing(target) as temporary, bounded(counted.parent, memory_gb) as database:
        database.execute(
            f"""
            COPY (
                SELECT t.shard, t.key
                FROM (
                    SELECT url, key, status, parse_filename(filename, true) AS shard
                    FROM read_parquet($tables, filename = true)
                ) t LEFT JOIN (SELECT url, shard FROM read_parquet($counted)) c USING (url)
                WHERE c.url IS NULL OR (c.shard <> t.shard AND t.status = '{SUCCESS}')
                ORDER BY t.shard
            ) TO '{str(temporary).replace("'", "''")}' (FORMAT parquet)
            """,
            {"tables": tables, "counted": str(counted)},
        )
        found = database.execute("SELECT DISTINCT shard FROM read_parquet($gone)", {"gone": str(temporary)}).fetchall()
    return sorted(row[0] for row in found)


def _write_aside(folder: Path, name: str, gone: pa.Array) -> None:
    """Writes the files of a shard without the rows of some keys aside."""
    tar, path, _ = shard_files(folder, name)
    table, keys = pq.read_table(path), set(gone.to_pylist())
    table = table.filter(pc.invert(pc.is_in(table["key"], gone)))
    with replacing(notes_folder(folder) / f"{_ASIDE}{name}") as temporary:
        temporary.mkdir()
        new_tar, new_path, new_stats = shard_files(temporary, name)
        with tar.open("rb") as source, tarfile.open(new_tar, "w", format=tarfile.USTAR_FORMAT) as target:
            for member in members(tar):
                if member.name.rpartition(".")[0] not in keys:
                    source.seek(member.offset)
                    info = tarfile.TarInfo(member.name)
                    info.size = member.size
                    target.addfile(info, source)
        pq.write_table(table, new_path)
        write_json(
            new_stats, {"count": table.num_rows, "successes": pc.sum(pc.equal(table["status"], SUCCESS)).as_py() or 0}
        )


def _rewrite_list(folder: Path, one: Round) -> None:
    """Leaves in a round's list what its shards have."""
    home = one.home(folder)
    (notes_folder(home) / "asked.parquet").unlink(missing_ok=True)  # beside the lists of before

    def kept(position: int, rows: pa.Table) -> pa.Table:
        table = shard_files(folder, one.names(position)[1])[1]
        if not rows.num_rows or not table.exists():
            return rows.slice(0, 0)
        return rows.filter(pc.is_in(rows["url"], pq.read_table(table, columns=["url"])["url"].combine_chunks()))

    if list_of(home).exists():
        rewrite_list(home, kept)
