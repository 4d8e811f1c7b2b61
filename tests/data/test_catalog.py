from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caft.data.tables.catalog import caption_statistics
from caft.data.tables.schema import CAPTIONS, FIELDS, SENTENCES
from caft.errors import DataError

# Texts, sentences as (start, end), and token ids of two images' raw captions and long captions; all else is empty.
RAW = [("Ein Bär.", [(0, 8)], [[1, 2, 3]]), ("", [], [])]
LONG = [("A b. C.", [(0, 4), (5, 7)], [[1, 2, 3], [4, 5]]), ("D e f.", [(0, 6)], [[7, 8, 9, 9]])]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for place, (raw, long) in enumerate(zip(RAW, LONG, strict=True)):  # one image a shard
        texts = {field: [None] for field in FIELDS} | {"raw": [raw[0]], "long_ib": [long[0]]}
        spans = dict.fromkeys(FIELDS, []) | {"raw": raw[1], "long_ib": long[1]}
        ids = dict.fromkeys(FIELDS, []) | {"raw": raw[2], "long_ib": long[2]}
        image = {"key": ["1"], "download_sha256": [""]}
        image |= {name: [place] for name in ("row_id", "offset", "size", "width", "height")}
        as_structs = {f: [{"start": start, "end": end} for start, end in found] for f, found in spans.items()}
        sentences = {"row_id": [place]}
        sentences |= {
            "spacy_spans": [as_structs],
            "spacy_ids": [ids],
            # The whole caption is one sentence, of one token more.
            "dreamlip_spans": [{field: found[:1] for field, found in as_structs.items()}],
            "dreamlip_ids": [{field: [[0, *sum(tokens, [])]] if tokens else [] for field, tokens in ids.items()}],
        }
        for name, columns, schema in (("captions", image | texts, CAPTIONS), ("sentences", sentences, SENTENCES)):
            (tmp_path / name).mkdir(exist_ok=True)
            pq.write_table(pa.table(columns, schema=schema), tmp_path / name / f"{place:05d}.parquet")
    return tmp_path / "captions", tmp_path / "sentences"


def test_statistics_are_those_counted_by_hand(folders: tuple[Path, Path]) -> None:
    found = caption_statistics(*folders)
    assert list(found) == list(FIELDS)
    keys = ("captions", "characters", "sentences_spacy", "tokens_spacy", "sentences_dreamlip", "tokens_dreamlip")
    assert found["raw"] == dict(zip(keys, (1, 8, 1, 3, 1, 4), strict=True))
    assert found["long_ib"] == dict(zip(keys, (2, 6.5, 1.5, 4.5, 1, 5.5), strict=True))
    assert found["short_sv"] == dict(zip(keys, (0, None, None, None, None, None), strict=True))


def test_missing_tables_are_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="elsewhere: holds no table"):
        caption_statistics(folders[0], tmp_path / "elsewhere")
