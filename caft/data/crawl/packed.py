"""Images that somebody has packed into webdataset tars, each with a JSON that holds its URL.

The tars stay where and as they are: the folder of the shards gets links to them, and tables and manifest as a crawl
would have written them. What the list has and no tar holds makes a last shard, whose tar is empty.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caft.data.crawl.causes import NOT_PACKED, cause_of
from caft.data.crawl.counted import count_rows, count_shards
from caft.data.crawl.listing import begin, belongs, describe, fingerprint, read_source
from caft.data.crawl.manifest import (
    Manifest,
    Shard,
    forget_shard,
    note_shard,
    notes_folder,
    rows_fingerprint,
    same_time,
    shard_files,
)
from caft.data.crawl.rows import keep_counted
from caft.data.crawl.shards import SUCCESS
from caft.data.crawl.tars import PICTURES, Member, canonicalise, chosen, scan
from caft.data.tables.cluster import ray_tasks
from caft.data.tables.database import bounded
from caft.data.tables.meanings import schema
from caft.digests import file_digest
from caft.errors import DataError
from caft.locking import locked
from caft.progress import track
from caft.storage import main_checkout, replacing, write_json

logger = logging.getLogger(__name__)

# What a tar holds: one row a picture, in its order.
FOUND = schema(
    [
        ("place", pa.int64()),
        ("key", pa.string()),
        ("url", pa.string()),
        ("status", pa.string()),
        ("error_message", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
    ]
)
# The columns that `crawl` leaves, as far as anything reads them.
TABLE = pa.schema([("row_id", pa.int64()), ("url", pa.string()), *list(FOUND)[3:], FOUND.field("key")])
# Of the rules by which `list_tar` reads a tar: a table by others is made again.
RULES = "4"
# Bytes of the largest picture and JSON that are looked at: of 180 million pixels, the most that is decoded, without
# compression; and of what no JSON about one picture comes near.
_LARGEST, _LARGEST_NOTE = 1 << 30, 1 << 24
_SHA256 = re.compile("[0-9a-f]{64}")


class Tar(NamedTuple):
    """A tar, and where the table of what it holds belongs."""

    path: Path
    found: Path

    def __str__(self) -> str:
        return str(self.path)


def link_packed(
    corpus: str, urls: Path, packed: Path, folder: Path, memory_gb: int, keep: Path | None = None
) -> Manifest:
    """Completes a folder of image shards from packed tars.

    An image belongs to the row of the same URL; of several with one URL, the first counts.

    Args:
        corpus: Name of the corpus.
        urls: Table of the source stage.
        packed: Folder of the tars.
        folder: Folder of the shards.
        memory_gb: What the join may hold before it uses `folder`, in gigabytes.
        keep: As for `fetch_images`.

    Raises:
        DataError: There are no tars, one is damaged or holds no URLs, or the folder holds crawled images.
    """
    folder, packed = folder.resolve(), packed.resolve()
    tars = sorted(packed.glob("*.tar"))
    if not tars:
        raise DataError(f"{packed}: holds no .tar; set corpus.{corpus}.packed to the folder of the tars, or to null")
    held = hashlib.sha256(json.dumps([[tar.name, tar.stat().st_size] for tar in tars]).encode()).hexdigest()
    source = describe(urls) | {"packed": held}
    with locked(folder, "linking packed images into it"):
        begun = belongs(folder, corpus, source)
        work = notes_folder(folder) / "packed"
        work.mkdir(parents=True, exist_ok=True)
        # Named by the tar, whose number becomes another when one is added; a digest, as names may be patterns for DuckDB.
        tasks = [Tar(tar, work / f"{hashlib.sha256(tar.name.encode()).hexdigest()[:16]}.parquet") for tar in tars]
        _tidy(work, tasks, begun and read_source(folder)["packed"] == held)
        begin(folder, source)
        ray_tasks(list_tar, [task for task in tasks if not _is_listed(task)], f"{corpus} tars")
        if not any(pq.read_metadata(task.found).num_rows for task in tasks):
            raise DataError(
                f"{packed}: no picture in its {len(tars)} tars (endings: {', '.join(PICTURES)} and others); set "
                f"corpus.{corpus}.packed to the folder of the tars, or to null"
            )
        joined = work / "joined.parquet"
        unused = _join(urls, tasks, joined, memory_gb)
        numbered = track(list(enumerate(tasks)), f"{corpus} shards")
        shards = [_link(folder, f"{number:05d}", task, joined) for number, task in numbered]
        if sum(shard.rows for shard in shards) < source["rows"]:
            shards.append(_absent(folder, f"{len(tasks):05d}", joined))
        by_name = {shard.name: shard for shard in shards}
        for name in {file.name.partition(".")[0] for file in folder.glob("[0-9]*.tar")} - by_name.keys():
            forget_shard(folder, name)  # of a tar that is no longer there
        counted = count_rows(urls, folder, list(by_name), memory_gb)
        entries = count_shards(counted, by_name, memory_gb)
        if keep is not None:
            keep_counted(folder, keep)
    logger.info("%s: %d images of the tars are not in the list, or there before", corpus, unused)
    beside, broken = (sum(int(_seen(task)[count]) for task in tasks) for count in ("beside", "broken_notes"))
    if beside:
        logger.warning("%s: %d files beside a picture of the same key were not taken for it", corpus, beside)
    if broken:
        logger.warning("%s: %d JSON files of the tars are none; their images are not used", corpus, broken)
    counts = {"images_not_used": unused, "beside_a_picture": beside, "broken_notes": broken, **_odd(corpus, tasks)}
    write_json(notes_folder(folder) / "fetched.json", {"tars": len(tars), **counts})
    return Manifest(corpus, fingerprint(source), entries)


def _tidy(work: Path, tasks: Sequence[Tar], same: bool) -> None:
    """Removes tables of tars that are not there; of the same tars, those that were named by number are taken over."""
    for number, task in enumerate(tasks):
        if same and (older := work / f"{number:05d}.parquet").exists():
            older.rename(task.found)
    kept = {task.found for task in tasks}
    for path in work.glob("*.parquet"):
        if path not in kept:
            path.unlink()


def _odd(corpus: str, tasks: Sequence[Tar]) -> dict[str, int]:
    """Says and counts what tars hold that is used for nothing."""
    said = {
        "links": "%d links, devices or sparse files of the tars are not used",
        "repeated": "%d keys have a file of one name twice in their tar, so nobody can say which is meant; not used",
        "more": "%d tars have something after their end, which is not read; join tars by `tar --concatenate`, not `cat`",
    }
    counts = {name: sum(int(_seen(task)[name]) for task in tasks) for name in said}
    for name, count in counts.items():
        if count:
            logger.warning("%s: " + said[name], corpus, count)
    return {"links_in_tars": counts["links"], "repeated_names": counts["repeated"], "tars_with_more": counts["more"]}


def list_tar(task: Tar) -> int:
    """Writes the table of a tar's pictures, each of which is decoded; returns their number.

    Raises:
        DataError: The tar is damaged, or its pictures have no URLs.
    """
    held = scan(task.path)
    pictures, notes, beside, repeated = chosen(held)
    rows: list[list[Any]] = []
    broken = 0
    with task.path.open("rb") as file:
        for place, (key, member) in enumerate(pictures.items()):
            content = _content(file, member, _LARGEST)
            note: dict[str, str] | None = {}
            if key in notes:
                note = _note(_content(file, notes[key], _LARGEST_NOTE))
            broken += note is None
            url, sha256 = (note or {}).get("url"), (note or {}).get("sha256") or hashlib.sha256(content).hexdigest()
            rows.append([place, key, url, *_looked_at(content), sha256])
    if rows and not any(row[2] for row in rows):
        raise DataError(
            f"{task.path}: {len(rows)} pictures, none with a JSON that holds its `url`, so they cannot be told apart; "
            "take the published tars, or fetch by URL (corpus.<name>.packed: null)"
        )
    state = task.path.stat()
    seen = {"bytes": str(state.st_size), "modified": str(state.st_mtime_ns), "sha256": file_digest(task.path)}
    odd = {"links": len(held.others), "repeated": repeated, "more": int(held.more)}
    seen |= {"rules": RULES, "beside": str(beside), "broken_notes": str(broken)}
    seen |= {name: str(count) for name, count in odd.items()}
    columns = zip(*rows, strict=True) if rows else [()] * len(FOUND)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, FOUND, strict=True)]
    with replacing(task.found) as temporary:
        pq.write_table(pa.table(arrays, schema=FOUND.with_metadata(seen)), temporary, compression="zstd")
    return len(rows)


def _content(file: BinaryIO, member: Member, most: int) -> bytes:
    """The bytes of a member; nothing of one that is larger than any of its kind, and might fill the memory."""
    if member.size > most:
        return b""
    file.seek(member.offset)
    return file.read(member.size)


def _looked_at(content: bytes) -> tuple[str, str | None, int | None, int | None]:
    """Status, error message, width and height of a picture: of the whole of it, since a header may be all that is left."""
    from caft.transforms import open_image  # of torch; of those that import this module, few read a picture

    try:
        image = open_image(content)
    except DataError as error:
        return "failed_to_resize", str(error)[:100], None, None
    return SUCCESS, None, image.width, image.height


def _note(content: bytes) -> dict[str, str] | None:
    """What a JSON beside a picture says of `url` and `sha256`; None if it is no JSON."""
    try:
        note = json.loads(content)
        found = {key: note[key].strip() for key in ("url", "sha256") if isinstance(note.get(key), str)}
        "".join(found.values()).encode()
        if not _SHA256.fullmatch(found.get("sha256", "")):  # else "n/a" would make one picture of all
            found.pop("sha256", None)
    except (ValueError, RecursionError):  # also half a surrogate pair, which is no text
        return None
    except AttributeError:  # a list, or a number
        return {}
    return found


def _is_listed(task: Tar) -> bool:
    """Whether the table exists and is of the tar as it is now."""
    if not task.found.exists():
        return False
    state, seen = task.path.stat(), _seen(task)
    if (seen["bytes"], seen.get("rules")) != (str(state.st_size), RULES):
        return False
    if same_time(int(seen["modified"]), state.st_mtime_ns):
        return True
    if file_digest(task.path) != seen["sha256"]:
        return False
    table = pq.read_table(
        task.found
    )  # a copy: its pictures need not be decoded again, nor its bytes be read the next time
    with replacing(task.found) as temporary:
        noted = {**seen, "modified": str(state.st_mtime_ns)}
        pq.write_table(table.replace_schema_metadata(noted), temporary, compression="zstd")
    return True


def _seen(task: Tar) -> dict[str, str]:
    """Size, time and digest of the tar when its table was written."""
    return {key.decode(): value.decode() for key, value in (pq.read_schema(task.found).metadata or {}).items()}


def _join(urls: Path, tasks: Sequence[Tar], target: Path, memory_gb: int) -> int:
    """Writes every row of the list with its image, or with none; returns how many images have no row."""
    tables = [str(task.found) for task in tasks]
    with replacing(target) as temporary, bounded(target.parent, memory_gb) as database:
        database.execute(
            f"""
            COPY (
                WITH number AS (
                    SELECT unnest($tables) AS filename, unnest($shards) AS shard
                ), held AS (
                    SELECT * FROM read_parquet($tables, filename = true) JOIN number USING (filename)
                ), first AS (
                    SELECT url, min((status <> 'success', shard, place)) AS at FROM held WHERE url <> '' GROUP BY url
                )
                SELECT u.row_id, u.url, held.* EXCLUDE (url, filename)
                FROM (SELECT row_id, url FROM read_parquet($urls)) u
                LEFT JOIN first USING (url)
                LEFT JOIN held ON held.shard = first.at[2] AND held.place = first.at[3]
                ORDER BY held.shard NULLS LAST, held.place, u.row_id
            ) TO '{str(temporary).replace("'", "''")}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 10240)
            """,
            {"tables": tables, "shards": [f"{number:05d}" for number in range(len(tables))], "urls": str(urls)},
        )
        row = database.execute("SELECT count(shard) FROM read_parquet($joined)", {"joined": str(temporary)}).fetchone()
    return sum(pq.read_metadata(task.found).num_rows for task in tasks) - (row[0] if row else 0)


def _link(folder: Path, name: str, task: Tar, joined: Path) -> Shard:
    """Links a tar into the folder of the shards, and writes its table beside it."""
    link = shard_files(folder, name)[0]
    # Within a checkout relative, so that a copy of it does not lead back into the original.
    checkout = main_checkout()
    inside = task.path.is_relative_to(checkout) and folder.is_relative_to(checkout)
    place = Path(os.path.relpath(task.path, folder)) if inside else task.path
    if not (link.is_symlink() and link.readlink() == place):
        with replacing(link) as temporary:
            temporary.symlink_to(place)
    return _finish(folder, name, pq.read_table(joined, filters=[("shard", "=", name)]), _seen(task))


def _absent(folder: Path, name: str, joined: Path) -> Shard:
    """The shard of the rows whose image no tar holds."""
    table = pq.read_table(joined, filters=pc.field("shard").is_null())
    tar = shard_files(folder, name)[0]
    with replacing(tar) as temporary:
        temporary.write_bytes(bytes(1024))
        canonicalise(temporary)
    messages = pa.array([NOT_PACKED] * table.num_rows, pa.string())
    for column in ("status", "error_message"):
        table = table.set_column(table.column_names.index(column), column, messages)
    return _finish(folder, name, table, {"bytes": str(tar.stat().st_size), "sha256": file_digest(tar)})


def _finish(folder: Path, name: str, table: pa.Table, seen: dict[str, str]) -> Shard:
    """Writes table, statistics and note of a shard, in this order."""
    _, path, stats = shard_files(folder, name)
    table = table.select(TABLE.names).cast(TABLE)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    good = table.filter(pc.equal(table["status"], SUCCESS))
    failed = table.filter(pc.not_equal(table["status"], SUCCESS)).select(["status", "error_message"])
    lost = Counter(itertools.starmap(cause_of, zip(*failed.to_pydict().values(), strict=True)))
    write_json(stats, {"count": table.num_rows, "successes": good.num_rows})
    shard = Shard(
        name=name,
        rows=table.num_rows,
        successes=good.num_rows,
        lost=dict(sorted(lost.items())),
        bytes=int(seen["bytes"]),
        sha256=seen["sha256"],
        fingerprint=rows_fingerprint(zip(good["row_id"].to_pylist(), good["sha256"].to_pylist(), strict=True)),
    )
    note_shard(folder, shard)
    return shard
