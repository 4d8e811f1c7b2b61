"""Training tars for other people's programs: each picture with its raw caption as text, and all captions as JSON.

open_clip drops a sample without a `txt` and says nothing (`filter_no_caption_or_no_image`); its 4.x takes a caption out of
the `json` by name (`--json-text-key`), as a text. FLAIR joins the seven lists of sentences that the `json` has under
DreamLIP's names. The tars that training reads stay as they are.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from caft.captions.sentences import split
from caft.data.export.pictures import plain
from caft.data.tables.cluster import ray_tasks
from caft.data.tables.schema import CAPTIONS, CSV_COLUMNS, FIELDS, open_table
from caft.errors import DataError
from caft.storage import replacing, write_json

ROWS_AT_ONCE = 1000


class TarTask(NamedTuple):
    """The tar that training reads, the table of its captions, and the tar to write."""

    images: Path
    captions: Path
    target: Path

    def __str__(self) -> str:
        return str(self.images)


class Counts(NamedTuple):
    """Of a tar: its samples, those whose text is another caption than the raw one, and pictures that were written anew."""

    samples: int
    without_raw: int
    rewritten: int


def export_tars(images: Path, captions: Path, folder: Path) -> Counts:
    """Writes a folder of tars, one for each caption table, with `sizes.json`, which tells open_clip how many samples there are.

    A sample's key is its row_id in nine digits or more: keys of tars by others may hold stops, at which webdataset ends them.

    Args:
        images: Folder of a corpus' image shards.
        captions: Folder of its caption tables.
        folder: Where to; it must not exist, or be empty.

    Returns:
        Of all tars together.

    Raises:
        DataError: The folder is not empty, there is no caption table, or a picture cannot be read.
    """
    folder = folder.resolve()  # a link, as to a larger disk, stays
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: is there already; give the name of a folder that is not, or remove it")
    tables = sorted(captions.glob("[0-9]*.parquet"))
    if not tables:
        raise DataError(f"{captions}: holds no table; run `dvc repro captions@{captions.name}`")
    with replacing(folder) as work:
        work.mkdir()
        names = [f"{number:05d}.tar" for number in range(len(tables))]
        tasks = [
            TarTask(*(path.resolve() for path in (images / f"{table.stem}.tar", table, work / name)))
            for name, table in zip(names, tables, strict=True)
        ]
        counts = ray_tasks(write_tar, tasks, "tars")
        write_json(work / "sizes.json", {name: count.samples for name, count in zip(names, counts, strict=True)})
    return Counts(*map(sum, zip(*counts, strict=True)))


def write_tar(task: TarTask) -> Counts:
    """Writes one tar, in the order of its table."""
    samples = without_raw = rewritten = 0
    with (
        task.images.open("rb") as source,
        replacing(task.target) as temporary,
        tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as target,
    ):
        for batch in open_table(task.captions, CAPTIONS).iter_batches(ROWS_AT_ONCE):
            for row in batch.to_pylist():
                source.seek(row["offset"])
                content = source.read(row["size"])
                try:
                    ending, picture = plain(content)
                except DataError as error:
                    raise DataError(f"{task.images}: {row['key']}: {error}; run `dvc repro` first") from None
                for name, data in ((ending, picture), ("txt", text_of(row).encode()), ("json", json_of(row).encode())):
                    member = tarfile.TarInfo(f"{row['row_id']:09d}.{name}")
                    member.size = len(data)
                    target.addfile(member, io.BytesIO(data))
                samples += 1
                without_raw += not row["raw"]
                rewritten += picture is not content
    return Counts(samples, without_raw, rewritten)


def text_of(row: Mapping[str, str | None]) -> str:
    """The raw caption of a row of the caption tables; where there is none, the first that there is."""
    return next(caption for field in FIELDS if (caption := row[field]))


def json_of(row: Mapping[str, str | None]) -> str:
    """All captions of a row: as texts under this project's names, as lists of sentences under DreamLIP's."""
    texts = {field: row[field] for field in FIELDS}
    lists = {
        column: split(texts[field] or "", "dreamlip") for column, field in zip(CSV_COLUMNS[1:], FIELDS, strict=True)
    }
    return json.dumps({"row_id": row["row_id"], **texts, **lists}, ensure_ascii=False)
