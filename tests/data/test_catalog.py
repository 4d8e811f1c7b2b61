from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caft.data.catalog import caption_statistics
from caft.data.schema import CAPTIONS, FIELDS
from caft.data.sentence_table import write_shard
from caft.errors import DataError


def write_captions(path: Path, captions: list[dict[str, str | None]]) -> None:
    columns: dict[str, list[Any]] = {
        name: [0] * len(captions) for name in CAPTIONS.names if name not in (*FIELDS, "key", "sha256")
    }
    columns |= {name: [""] * len(captions) for name in ("key", "sha256")}
    columns |= {name: [row.get(name) for row in captions] for name in FIELDS}
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns, schema=CAPTIONS), path)


def test_statistics_count_what_is_there_over_all_shards(tmp_path: Path) -> None:
    shards: list[list[dict[str, str | None]]] = [
        [{"raw": "a cat", "long_ib": "A cat sits. It is red."}, {"raw": "", "long_ib": "Dogs run."}],
        [{"raw": "caf\u00e9", "long_ib": None}],
    ]
    for number, captions in enumerate(shards):
        name = f"{number:05d}.parquet"
        write_captions(tmp_path / "captions" / name, captions)
        write_shard(tmp_path / "captions" / name, tmp_path / "sentences" / name)
    found = caption_statistics(tmp_path / "captions", tmp_path / "sentences", "spacy")
    assert list(found) == list(FIELDS)
    # Characters are code points; CLIP has a token for each of these words and for each full stop.
    assert found["raw"] == {"captions": 2, "characters": (5 + 4) / 2, "sentences": 1.0, "tokens": (2 + 1) / 2}
    assert found["long_ib"] == {"captions": 2, "characters": (22 + 9) / 2, "sentences": 1.5, "tokens": (8 + 3) / 2}
    assert found["short_sv"] == {"captions": 0, "characters": None, "sentences": None, "tokens": None}


def test_statistics_of_a_missing_folder_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="captions: holds no table; run the stage that writes it"):
        caption_statistics(tmp_path / "captions", tmp_path / "sentences", "spacy")
