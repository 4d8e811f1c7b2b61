"""The table that says of each row of a corpus where it counts: its image, or the cause of its loss."""

import shutil
from pathlib import Path

import pyarrow as pa

from caft.data.crawl.manifest import notes_folder
from caft.data.tables.meanings import schema
from caft.storage import replacing

# One row for each of the source stage's table, in the order of a list that is fetched at once. `cause` is null for an
# image, and all after it is null for a lost one, as is `key`.
COUNTED = schema(
    [
        ("row_id", pa.int64()),
        ("url", pa.string()),
        ("shard", pa.string()),
        ("key", pa.string()),
        ("cause", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("download_sha256", pa.string()),
    ]
)


def counted_table(folder: Path) -> Path:
    """Where the table of a folder of image shards is."""
    return notes_folder(folder) / "rows.parquet"


def keep_counted(folder: Path, target: Path) -> None:
    """Copies the table, under the folder's lock: the next fetch into it, maybe of another checkout's list, writes another."""
    with replacing(target) as temporary:
        shutil.copyfile(counted_table(folder), temporary)
