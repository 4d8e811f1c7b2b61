"""Small tables and shards as the stages write them."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from caft.data.tables.schema import CAPTIONS, FIELDS
from caft.data.tables.sentence_table import write_sentences


def png(colour: tuple[int, int, int] = (200, 10, 10)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(buffer, "PNG")
    return buffer.getvalue()


Corpus = Callable[..., Path]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Writes the shard `one/00000` of images with the given raw captions; returns the folder of everything."""

    def write(captions: list[str | None], pictures: list[bytes] | None = None) -> Path:
        for kind in ("images", "captions", "sentences"):
            (tmp_path / kind / "one").mkdir(parents=True)
        tar_path = tmp_path / "images/one/00000.tar"
        pictures = pictures or [png()] * len(captions)
        with tarfile.open(tar_path, "w") as tar:
            for row, picture in enumerate(pictures):
                entry = tarfile.TarInfo(f"{row:09d}.jpg")
                entry.size = len(picture)
                tar.addfile(entry, io.BytesIO(picture))
        with tarfile.open(tar_path) as tar:
            offsets = [member.offset_data for member in tar]
        rows = range(len(captions))
        columns = {
            "key": [f"{row:09d}" for row in rows],
            "row_id": [100 + row for row in rows],
            "offset": offsets,
            "size": [len(picture) for picture in pictures],
            "width": [32 for _ in rows],
            "height": [32 for _ in rows],
            "download_sha256": ["" for _ in rows],
            **{field: [None for _ in rows] for field in FIELDS},
            "raw": captions,
        }
        table = pa.table([pa.array(columns[field.name], field.type) for field in CAPTIONS], schema=CAPTIONS)
        pq.write_table(table, tmp_path / "captions/one/00000.parquet")
        write_sentences(tmp_path / "captions/one/00000.parquet", tmp_path / "sentences/one/00000.parquet")
        return tmp_path

    return write
