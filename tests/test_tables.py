"""docs/tables.md: its columns are those of the schemas, and DuckDB and polars give the same for each of its queries."""

import ast
import re
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caft.data.crawl.listing import LISTED
from caft.data.crawl.own import _TABLE
from caft.data.crawl.packed import FOUND
from caft.data.crawl.rows import COUNTED
from caft.data.sets.referring import schema as references
from caft.data.tables.schema import CAPTIONS, FIELDS, REJECTS, SENTENCES, URLS
from caft.data.tables.sentence_table import write_sentences
from caft.data.tables.support_table import SUPPORT
from caft.data.training.overlap import PAIRS
from caft.eval.scores.referring_sets import SCHEMA
from tests.peers import peer

PAGE = (Path(__file__).parents[1] / "docs/tables.md").read_text()
SECTIONS = dict(re.findall(r"^## `(.*?)`\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
SCHEMAS = {
    "data/urls/<corpus>.parquet": URLS,
    "data/urls/<corpus>.rejects.parquet": REJECTS,
    "data/images/<corpus>.parquet": COUNTED,
    "data/captions/<corpus>/NNNNN.parquet": CAPTIONS,
    "data/sentences/<corpus>/NNNNN.parquet": SENTENCES,
    "data/support/<corpus>/NNNNN.parquet": SUPPORT,
    "data/leakage.parquet": PAIRS,
    "reports/expressions/<set>.parquet": SCHEMA,
}


def fields(kind: pa.Schema | pa.DataType) -> list[pa.Field]:
    """All fields of a schema, those in structs and lists too."""
    if isinstance(kind, pa.Schema):
        own = list(kind)
    elif pa.types.is_struct(kind):
        own = [kind.field(place) for place in range(kind.num_fields)]
    else:
        return fields(kind.value_type) if pa.types.is_list(kind) else []
    return [*own, *(inner for field in own for inner in fields(field.type))]


@pytest.mark.parametrize("schema", [*SCHEMAS.values(), LISTED, FOUND, _TABLE, references()])
def test_every_column_says_what_it_means(schema: pa.Schema) -> None:
    for field in fields(schema):
        assert len((field.metadata or {}).get(b"meaning", b"")) > 5, field.name


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_page_has_the_columns_of_the_schema(name: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| .*? \| (.*) \| ([\w ]*) \|$", SECTIONS[name], re.M)
    said = [(field.name, field.metadata) for field in SCHEMAS[name]]
    assert rows == [(column, data[b"meaning"].decode(), data.get(b"unit", b"").decode()) for column, data in said]


def test_the_page_has_every_table() -> None:
    assert list(SECTIONS) == list(SCHEMAS)


# ---- queries

CAPTION = {"raw": ["a red bus", None, "A RED cat"], "long_sv": ["Ein Bär. It's wet.", None, "One sentence"]}
CAPTION["long_lla"] = ["A bus. It waits.", "x", None]


def rows_of(number: int, schema: pa.Schema, /, **columns: list[Any]) -> pa.Table:
    """A table of `number` rows; columns that are not given are null."""
    held = {field.name: columns.get(field.name, [None] * number) for field in schema}
    return pa.table([pa.array(held[field.name], field.type) for field in schema], schema=schema)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout's tables, each of a few rows."""
    folder = tmp_path_factory.mktemp("checkout")
    tables = {
        "data/urls/scenes.parquet": rows_of(3, URLS, row_id=[0, 1, 5], url=["http://a", "http://b", "http://c"], **CAPTION),
        "data/urls/scenes.rejects.parquet": rows_of(
            3, REJECTS, row_id=[2, 3, 4], line=[3, 9, 7], reason=["duplicate_url", "null_url", "duplicate_url"],
            text=["http://a", ",x", "http://b"],
        ),
        "data/images/scenes.parquet": rows_of(
            4, COUNTED, row_id=[0, 1, 5, 6], url=["a", "b", "c", "d"], shard=["00000", "00000", "00001", "00001"],
            cause=[None, "http_404", None, None], width=[30, None, 40, 20], height=[20, None, 10, 20],
            download_sha256=["f", None, "e", "f"],
        ),
        "data/support/scenes/00000.parquet": rows_of(
            4, SUPPORT, row_id=[0, 0, 1, 5], caption=["raw", "long_sv", "long_sv", "raw"], number=[0, 1, 0, 0],
            start=[0, 9, 0, 0], end=[9, 18, 4, 9], sentence=["a red bus", "It's wet.", "None", "A RED cat"],
            logit=[1.0, -9.5, 0.5, None], support=[1.0, -0.5, 0.75, None], flagged=[False, True, False, False],
        ),
        "data/leakage.parquet": rows_of(
            3, PAIRS, benchmark=["iiw", "iiw", "docci"], image=["1.jpg", "1.jpg", "2.jpg"], position=[1, 2, 3],
            corpus=["scenes"] * 3, row_id=[0, 1, 5], bits=[0, 4, 0],
        ),
        "reports/expressions/phrase.parquet": rows_of(
            3, SCHEMA, set=["phrase"] * 3, image=["1.jpg", "1.jpg", "2.jpg"], annotation=[1, 1, 2], text=["a", "a", "b"],
            level=[64, 16, 64], intersection=[1, 2, 3], union=[2, 8, 4], iou=[0.5, 0.25, 0.75],
            iou_wrong_expression=[0.75, 0.0, None], pointing=[1.0, 0.0, 0.5], threshold=[0.1, 0.2, 0.3],
        ),
    }  # fmt: skip
    for place, rows in (("00000", slice(0, 2)), ("00001", slice(2, 3))):
        tables[f"data/captions/scenes/{place}.parquet"] = rows_of(
            len(range(3)[rows]), CAPTIONS, key=["1", "2", "3"][rows], row_id=[0, 1, 5][rows], offset=[512, 2048, 512][rows],
            size=[100, 50, 70][rows], width=[30, 25, 40][rows], height=[20, 30, 10][rows],
            **{name: texts[rows] for name, texts in CAPTION.items()},
        )  # fmt: skip
    for name, table in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / name)
    (folder / "data/sentences/scenes").mkdir(parents=True)
    for path in (folder / "data/captions/scenes").iterdir():
        write_sentences(path, folder / "data/sentences/scenes" / path.name)
    return folder


def blocks(section: str, language: str) -> str:
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", section, re.S))


def canonical(rows: list[tuple[Any, ...]]) -> list[str]:
    """Rows in any order; means to twelve digits."""
    return sorted(repr(tuple(f"{value:.12g}" if isinstance(value, float) else value for value in row)) for row in rows)


def test_duckdb_and_polars_give_the_same(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peer("polars")
    monkeypatch.chdir(checkout)
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE, re.S)[0], names)
    found = {}
    for title, section in SECTIONS.items():
        queries = [query for query in blocks(section, "sql").split(";") if query.strip()]
        by_duckdb = [duckdb.sql(query).fetchall() for query in queries]
        by_polars = []
        for statement in ast.parse(blocks(section, "python")).body:
            code = ast.unparse(statement)
            if isinstance(statement, ast.Expr):
                by_polars.append(eval(code, names).rows())
            else:
                exec(code, names)
        assert len(by_duckdb) == len(by_polars) == 3, title
        for query, one, other in zip(queries, by_duckdb, by_polars, strict=True):
            assert one and canonical(one) == canonical(other), query
        found[title] = [sorted(map(repr, rows)) for rows in by_duckdb]
    # Worked by hand, of the tables above.
    assert found["data/urls/<corpus>.parquet"] == [["(3, 2)"], ["(0, 'http://a')", "(5, 'http://c')"], ["(8.5,)"]]
    assert found["data/images/<corpus>.parquet"][1:] == [["('00000', 600.0)", "('00001', 400.0)"], ["('f', 2)"]]
    assert found["data/captions/<corpus>/NNNNN.parquet"][:2] == [["('00000', 2)", "('00001', 1)"], ["(220, 10)"]]
    sentences = found["data/sentences/<corpus>/NNNNN.parquet"]
    assert sentences[0] == ["(0, 2)", "(1, 0)", "(5, 1)"]
    assert sentences[2] == ["(0, 'Ein Bär.')", "(5, 'One sentence')"]
    assert found["reports/expressions/<set>.parquet"][1:] == [["(16, 25.0)", f"(64, {400 / 6})"], ["('1.jpg', 'a')"]]


def test_a_folder_of_tables_is_read_whole_by_others(checkout: Path) -> None:
    """The summary lies beside it: polars refuses a folder with a file that is no table."""
    import pandas as pd

    polars = peer("polars")
    for kind in ("captions", "sentences"):
        folder = checkout / "data" / kind / "scenes"
        assert len(polars.read_parquet(folder)) == len(pq.read_table(folder)) == len(pd.read_parquet(folder)) == 3


def test_a_sentences_ids_are_found_by_the_captions_name(checkout: Path) -> None:
    """The same caption in DuckDB, which counts a list's items from 1, and in Python, which counts them from 0."""
    path = checkout / "data/sentences/scenes/00000.parquet"
    for field in FIELDS:
        (by_duckdb,) = duckdb.sql(f"SELECT spacy_ids.{field} FROM '{path}' WHERE row_id = 0").fetchall()[0]
        assert by_duckdb == pq.read_table(path).to_pylist()[0]["spacy_ids"][field]
