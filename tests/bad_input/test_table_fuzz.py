"""A seeded fuzz of tables through the stage `source`: each is read right, or refused in one line; nothing is lost unsaid."""

import argparse
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caft.data.tables.header import CUSTOM
from caft.errors import CaftError
from caft.params import Params, load_params
from caft.params.corpora import CustomCorpus
from pipelines import source as source_stage

ROOT = Path(__file__).parents[2]
TABLES = 150

NAMES = [*CUSTOM.captions, "Long_Caption", "long_caption2", "captions", "width", "raw_caption", ""]
CELLS = [
    *(
        "A cat sits. It purrs.",
        "Ein Hündchen, klein; braun.",
        '"Stop", it reads.',
        "一只猫。",
        "two\nlines",
        "a\rb",
        "\ttab",
    ),
    *(
        "nan",
        "None",
        "",
        " ",
        "\ufeff",
        "\u200b",
        "<NA>",
        "x" * 140_000,
        "\u2028",
        "&nbsp;",
        "=1+1",
        "\x00",
        "{}",
        "...",
        "(null)",
        "🐱",
    ),
]
ADDRESSES = ["nan", "", "file:///etc/passwd", "data:,x", "http://a/ü b.jpg", "../x.jpg", "URL:file:a", "http://a/1.jpg"]
ENCODINGS = ["utf-8"] * 8 + ["utf-8-sig", "latin-1", "utf-16", "utf-16-le", "cp1252", "gb18030"]
TYPES = [
    *([pa.string()] * 4),
    *(pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int32(), pa.string()), pa.list_(pa.string())),
]


def rows_of(rng: np.random.Generator, names: list[str]) -> list[list[str]]:
    """Cells of a table, of which each address but for the odd ones tells its row, as does each caption."""
    rows = []
    for number in range(int(rng.integers(1, 40))):
        row = []
        for name in names:
            odd = rng.random() < 0.12
            if name in CUSTOM.address:
                row.append(str(rng.choice(ADDRESSES)) if odd else f"http://a/row{number}.jpg")
            else:
                row.append(str(rng.choice(CELLS)) if odd else f"Picture {number} in column {len(row)}.")
        rows.append(row)
    return rows


def as_csv(rng: np.random.Generator, names: list[str], rows: list[list[str]]) -> bytes:
    """A CSV file, often with something wrong about it."""
    text = io.StringIO(newline="")
    separator = str(rng.choice([",", ",", ",", ",", ",", ";", "\t", "|"]))
    quoting = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    writer = csv.writer(text, delimiter=separator, quoting=int(quoting), lineterminator=str(rng.choice(["\n", "\r\n"])))
    for row in [names, *rows]:
        writer.writerow(row[:-1] if rng.random() < 0.02 else row)
    content = text.getvalue().encode(str(rng.choice(ENCODINGS)), errors="replace")
    return damaged(rng, content) if rng.random() < 0.2 else content


def as_parquet(rng: np.random.Generator, names: list[str], rows: list[list[str]]) -> bytes:
    """A Parquet file, of odd types, and sometimes damaged."""
    columns = []
    for place in range(len(names)):
        cells: list[Any] = [row[place] or None for row in rows]
        kind = TYPES[rng.integers(len(TYPES))]
        if pa.types.is_list(kind):
            cells = [[cell] for cell in cells]
        if pa.types.is_binary(kind):
            cells = [cell and cell.encode() for cell in cells]
        column = pa.array(cells) if pa.types.is_dictionary(kind) else pa.array(cells, kind)
        columns.append(column.dictionary_encode() if pa.types.is_dictionary(kind) else column)
    sink = io.BytesIO()
    pq.write_table(pa.table(columns, names), sink)
    return damaged(rng, sink.getvalue()) if rng.random() < 0.2 else sink.getvalue()


def damaged(rng: np.random.Generator, content: bytes) -> bytes:
    """Some bytes replaced, or the end lost."""
    if rng.random() < 0.3:
        return content[: rng.integers(1, len(content) + 1)]
    changed = bytearray(content)
    for place in rng.integers(0, len(content), 3):
        changed[place] = int(rng.integers(256))
    return bytes(changed)


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAFT_STORAGE", str(tmp_path / "storage"))
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return load_params(ROOT / "params.yaml")


def test_any_table_is_read_right_or_refused_in_one_line(params: Params) -> None:
    rng = np.random.default_rng(19)
    kept_rows, ends = 0, {"read": 0, "refused": 0}
    for number in range(TABLES):
        names = [str(rng.choice(CUSTOM.address)), "long_caption", *map(str, rng.choice(NAMES, rng.integers(0, 3)))]
        rows = rows_of(rng, names)
        parquet = rng.random() < 0.4
        content = (as_parquet if parquet else as_csv)(rng, names, rows)
        table = f"t{number}.{rng.choice(['parquet', 'pq', 'PARQUET'] if parquet else ['csv', 'CSV', 'txt'])}"
        Path(table).write_bytes(content)
        own = CustomCorpus(kind="custom", table=table, expected_images=1, minimum_usable=0.2)
        with_own = params.model_copy(update={"corpus": {**params.corpus, "mine": own}})
        try:
            source_stage.main(with_own, argparse.Namespace(corpus="mine"))
        except CaftError as error:  # exit code 2; anything else is a traceback
            assert "\n" not in str(error) and table in str(error), str(error)
            ends["refused"] += 1
            continue
        ends["read"] += 1
        summary = json.loads(Path("data/urls/mine.json").read_text())
        kept = pq.read_table("data/urls/mine.parquet").to_pylist()
        rejected = pq.read_table("data/urls/mine.rejects.parquet").num_rows
        assert summary["rows_in"] == len(kept) + rejected == summary["rows_out"] + sum(summary["dropped"].values())
        if table_is_as_planted(content, parquet, names, rows):
            assert summary["rows_in"] == len(rows)
            kept_rows += check_planted(kept, names, rows)
    assert min(ends.values()) > TABLES // 5 and kept_rows > 500, (ends, kept_rows)


def table_is_as_planted(content: bytes, parquet: bool, names: list[str], rows: list[list[str]]) -> bool:
    """Whether a plain reader finds the planted cells in the bytes, so that it is known what must come out."""
    try:
        if parquet:
            found = [list(map(as_text, row.values())) for row in pq.read_table(io.BytesIO(content)).to_pylist()]
        else:
            found = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))[1:]
    except Exception:
        return False
    return found == rows and len(set(names)) == len(names)


def as_text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


def check_planted(kept: list[dict[str, Any]], names: list[str], rows: list[list[str]]) -> int:
    """Each row has the planted captions, or null where these say nothing, and an address that is no other's."""
    nothing = {"nan", "None", "", " ", "\ufeff", "\u200b", "<NA>", "\u2028", "&nbsp;", "\x00", "{}", "...", "(null)"}
    for row in kept:
        planted = dict(zip(names, rows[row["row_id"]], strict=True))
        for name, field in CUSTOM.captions.items():
            cell = planted.get(name, "")
            assert row[field] == (None if cell in nothing else cell)
        if "url" in planted:
            assert row["url"] == planted["url"].strip() and not row["url"].startswith(("file:", "data:", "URL:"))
        else:
            assert row["url"].startswith("file:") and planted["path"] not in nothing
    return len(kept)
