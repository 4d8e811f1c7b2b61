"""Tables as pandas, polars, spreadsheets and people write them: what is read, what is refused, and in which words."""

import argparse
import gzip
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caft.data.tables.schema import CAPTIONS
from caft.data.tables.sentence_table import summarize, write_sentences
from caft.errors import DataError
from caft.params import load_params
from caft.params.corpora import CustomCorpus
from pipelines import source as source_stage

ROOT = Path(__file__).parents[2]
Source = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """Runs the stage on a table of the user's own; returns the kept rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAFT_STORAGE", str(tmp_path / "storage"))
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    params = load_params(ROOT / "params.yaml")

    def run(table: bytes | pa.Table, name: str = "t.csv", **entry: Any) -> list[dict[str, Any]]:
        path = tmp_path / name
        if isinstance(table, pa.Table):
            pq.write_table(table, path)
        else:
            path.write_bytes(table)
        own = CustomCorpus(kind="custom", table=name, expected_images=4, **entry)
        with_own = params.model_copy(update={"corpus": {**params.corpus, "mine": own}})
        source_stage.main(with_own, argparse.Namespace(corpus="mine"))
        return pq.read_table("data/urls/mine.parquet").to_pylist()

    return run


def dropped() -> dict[str, int]:
    return json.loads(Path("data/urls/mine.json").read_text())["dropped"]


# ---- words for nothing, and what cannot be seen

NOTHING = [
    *("nan", "NaN", "NAN", "None", "null", "NULL", "<NA>", "N/A", "n/a", "NA", "NaT", "#N/A", "nil", " nan ", "\\N"),
    *("\ufeff", "\u200b", "\u200b\u200d\u2060", "\u00ad", "\u200e\u202c", "\ufe0f", "\u3000", "\u2800", "\u3164"),
    *("&nbsp;", "&amp;nbsp;", "&#8203; &#xFEFF;", "\x07"),
    *(
        "n.a.",
        "N / A",
        "(null)",
        "<none>",
        "[NULL]",
        '"nan"',
        "''",
        "\ufeffnan",
        "\u200bNA",
        "undefined",
        "#REF!",
        "#VALUE!",
        "#DIV/0!",
        "#NAME?",
    ),
    *("-", "—", ".", "...", "…", "?", "_", "*", "。", "、", "[]", "{}", "&amp;", "&hellip;", "<br>", "<p></p>", "</s>"),
]
SOMETHING = [
    "Nan bread.",
    "null and void",
    "N",
    "none.",
    "na!",
    "🐱",
    "猫",
    "unknown",
    "(a cat)",
    "- a cat",
    "<b>Cat</b>",
    "&#8203;cat",
    "undefined shapes",
    "-5",
    "ไทย",
    "हिन्दी",
    "½",
    "\ufeffA cat",
    "0",
    "nanny",
]


@pytest.mark.parametrize("word", NOTHING, ids=ascii)
def test_a_caption_that_says_nothing_is_none_and_costs_a_row_only_if_no_other_is_there(
    source: Source, word: str
) -> None:
    captions = {"long_caption": [word, "A cat sits.", word], "raw_caption": ["A dog.", word, word]}
    kept = source(pa.table({"path": ["0.jpg", "1.jpg", "2.jpg"], **captions}), "t.parquet")
    assert [(row["long_ib"], row["raw"]) for row in kept] == [(None, "A dog."), ("A cat sits.", None)]
    assert dropped() == {"no_caption": 1}


@pytest.mark.parametrize("word", SOMETHING, ids=ascii)
def test_a_caption_that_says_little_is_kept_as_it_is(source: Source, word: str) -> None:
    assert [row["raw"] for row in source(pa.table({"path": ["0.jpg"], "raw_caption": [word]}), "t.parquet")] == [word]


@pytest.mark.parametrize("word", ["nan", "<NA>", "None", "\ufeff"], ids=ascii)
@pytest.mark.parametrize("column", ["path", "url"])
def test_an_address_that_says_nothing_is_none(source: Source, column: str, word: str) -> None:
    table = pa.table({column: ["a.jpg", word], "raw_caption": ["A dog.", "A cat."]})
    assert len(source(table, "t.parquet")) == 1
    assert dropped() == {"null_url": 1}


def test_a_sentence_that_cannot_be_seen_is_none(tmp_path: Path) -> None:
    texts = ["A bus.\n\ufeff\nA cat.", "\u200b\u200d", "A bus.\n\x1b[31m", "\ufeff\n&nbsp;"]
    columns = {field.name: [None] * len(texts) for field in CAPTIONS} | {"raw": texts, "row_id": [0, 1, 2, 3]}
    (tmp_path / "work").mkdir()
    pq.write_table(pa.table(columns, CAPTIONS), tmp_path / "00000.parquet")
    counts = write_sentences(tmp_path / "00000.parquet", tmp_path / "work/00000.parquet")
    rows = pq.read_table(tmp_path / "work/00000.parquet").to_pylist()
    spans = [[(span["start"], span["end"]) for span in row["spacy_spans"]["raw"]] for row in rows]
    assert spans == [[(0, 6), (9, 15)], [], [(0, 6)], []]
    assert [[bool(ids) for ids in row["spacy_ids"]["raw"]] for row in rows] == [[True, True], [], [True], []]
    assert {key: counts[key] for key in ("rows", "spacy", "dreamlip")} == {"rows": 4, "spacy": 3, "dreamlip": 3}
    assert counts["characters"] == sum(map(len, texts)) and counts["asked"] == 0


def test_tokens_that_no_text_can_hold_are_counted(tmp_path: Path) -> None:
    texts = ["cat " * 75, "cat " * 76, "cat " * 100 + ". A dog.", None]  # "cat" is one token, and a text holds 75
    columns = {field.name: [None] * len(texts) for field in CAPTIONS} | {"raw": texts, "row_id": [0, 1, 2, 3]}
    (tmp_path / "work").mkdir()
    pq.write_table(pa.table(columns, CAPTIONS), tmp_path / "00000.parquet")
    write_sentences(tmp_path / "00000.parquet", tmp_path / "work/00000.parquet")
    cut = summarize(tmp_path, tmp_path / "work")["cut"]
    # The second splitter loses the full stop, which is the first's 101st token.
    assert cut == {"spacy": {"sentences": 2, "tokens": 1 + 26}, "dreamlip": {"sentences": 2, "tokens": 1 + 25}}


# ---- names that nearly fit, and names twice


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("long_caption2", "long_caption_2"),
        ("Short_caption", "short_caption"),
        ("LONG CAPTION", "long_caption"),
        ("long-caption-3", "long_caption_3"),
        ("raw_captions", "raw_caption"),
        ("longCaption", "long_caption"),
        ("short_caption_1", "short_caption"),
        ("raw_caption.1", "raw_caption"),
        ("Url", "url"),
        ("\ufeffshort_caption", "short_caption"),
        ("long\u00a0caption 2", "long_caption_2"),
        ("raw_caption\u200b", "raw_caption"),
        ("ｌｏｎｇ＿ｃａｐｔｉｏｎ", "long_caption"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_name_that_nearly_fits_is_an_error_with_the_name_meant(
    source: Source, kind: str, name: str, meant: str
) -> None:
    shown = "".join(re.escape(c) if c.isprintable() else r"\?" for c in name)
    with pytest.raises(DataError, match=rf"Column {shown} is not read; did you mean {meant}\? Rename"):
        if kind == "csv":
            source(f"path,long_caption,{name}\na.jpg,A cat.,B\n".encode())
        else:
            source(pa.table([["a.jpg"], ["A cat."], ["B"]], ["path", "long_caption", name]), "t.parquet")


def test_a_name_that_is_mistyped_is_one_warning_and_others_none(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    names = [
        "path",
        "long_caption",
        "long_captoin_2",
        "shrt_caption",
        "width",
        "licence",
        "caption_model",
        "CaptionsRaw",
    ]
    assert len(source(f"{','.join(names)}\n{','.join(['x'] * 8)}\n".encode())) == 1
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "long_captoin_2 is not read; did you mean long_caption_2?" in warnings[0]
    assert "shrt_caption is not read; did you mean short_caption?" in warnings[0]
    assert "CaptionsRaw is not read; did you mean raw_caption?" in warnings[0]
    assert "width" not in warnings[0] and "model" not in warnings[0]
    assert "t.csv: line 1: columns that are not read: width, licence, caption_model" in caplog.text


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("name", ["long_caption", "path"])
def test_a_column_twice_is_an_error_with_both_places(source: Source, kind: str, name: str) -> None:
    names = ["path", "long_caption", "width", name]
    with pytest.raises(DataError, match=rf"column {name} occurs twice \(columns {names.index(name) + 1} and 4\)"):
        if kind == "csv":
            source(f"{','.join(names)}\na.jpg,A cat.,3,B\n".encode())
        else:
            source(pa.table([["a.jpg"], ["A cat."], ["3"], ["B"]], names), "t.parquet")


def test_a_column_that_is_not_read_may_be_there_twice(source: Source) -> None:
    table = pa.table([["a.jpg"], ["A cat."], ["3"], ["B"]], ["path", "long_caption", "x", "x"])
    assert len(source(table, "t.parquet")) == 1


# ---- types and files

CSV = b"path,long_caption\na.jpg,A cat.\n"
TEXTS = ["A cat sits.", None, "Ein Hündchen läuft."]
TYPES = {
    "large_string": pa.array(TEXTS, pa.large_string()),
    "string_view": pa.array(TEXTS, pa.string_view()),
    "category": pa.array(TEXTS).dictionary_encode(),
    "large category": pa.array(TEXTS, pa.large_string()).dictionary_encode(),
    "binary": pa.array([text and text.encode() for text in TEXTS], pa.binary()),
    "large_binary": pa.array([text and text.encode() for text in TEXTS], pa.large_binary()),
    "category of bytes": pa.array([text and text.encode() for text in TEXTS]).dictionary_encode(),
}


@pytest.mark.parametrize("kind", TYPES)
def test_texts_of_every_type_are_read_and_an_empty_column_is_none(source: Source, kind: str) -> None:
    addresses = pa.array(["a.jpg", "b.jpg", "c.jpg"]).dictionary_encode()
    empty = {"raw_caption": pa.nulls(3), "short_caption": pa.array([None] * 3, pa.float64())}
    empty |= {"short_caption_2": pa.array([None] * 3, pa.list_(pa.string()))}  # polars and pandas of optional lists
    empty |= {"short_caption_3": pa.array([float("nan"), None, float("nan")])}  # polars keeps both
    kept = source(pa.table({"path": addresses, "long_caption": TYPES[kind], **empty}), "t.parquet")
    assert [(row["url"], row["long_ib"], row["raw"]) for row in kept] == [
        ("file:a.jpg", TEXTS[0], None),
        ("file:c.jpg", TEXTS[2], None),
    ]
    assert dropped() == {"no_caption": 1}


def test_what_pandas_writes_is_read(source: Source, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"path": ["a.jpg", "b.jpg"], "long_caption": ["A cat.", float("nan")]})
    frame["short_caption"] = pandas.Series(["A", "B"], dtype="category")
    frame["raw_caption"] = None
    frame.to_parquet(tmp_path / "frame.parquet")
    kept = source((tmp_path / "frame.parquet").read_bytes(), "t.parquet")
    assert [(row["long_ib"], row["short_ib"], row["raw"]) for row in kept] == [("A cat.", "A", None), (None, "B", None)]
    frame.astype(str).to_csv(tmp_path / "frame.csv")
    assert source((tmp_path / "frame.csv").read_bytes()) == kept


@pytest.mark.parametrize("kind", [pa.binary(), pa.string()], ids=str)
def test_bytes_that_are_not_utf8_cost_their_row(source: Source, kind: pa.DataType) -> None:
    texts = pa.array([b"A cat.", b"caf\xe9", b"A dog."], pa.binary()).view(kind)
    kept = source(pa.table({"path": ["a", "b", "c"], "raw_caption": texts}), "t.parquet")
    assert [row["raw"] for row in kept] == ["A cat.", "A dog."] and dropped() == {"bad_record": 1}


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([["A cat."], []]), r"list<.*string>"),
        (pa.array([1.5, None]), "double"),
        (pa.array([{"text": "A cat."}, None]), r"struct<text: string>"),
    ],
)
def test_other_types_are_refused_with_a_remedy(source: Source, column: pa.Array, kind: str) -> None:
    with pytest.raises(
        DataError, match=rf"column raw_caption is {kind}, expected string; write it as text, one caption"
    ):
        source(pa.table({"path": ["a", "b"], "raw_caption": column}), "t.parquet")


@pytest.mark.parametrize("name", ["t.PARQUET", "t.pq", "t.csv", "t"])
def test_a_parquet_file_is_one_whatever_its_name(source: Source, name: str) -> None:
    assert len(source(pa.table({"path": ["a", "b"], "raw_caption": ["A", "B"]}), name)) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (CSV, "does not begin as Parquet does"),
        (gzip.compress(CSV, mtime=0), "compressed by gzip"),
        (b"PK\x03\x04" + bytes(60), "a workbook of Excel"),
        (b"", "does not begin as Parquet does"),
        (b"PAR1", "is no whole Parquet file"),
    ],
)
def test_another_file_that_is_named_as_parquet_is_refused_by_its_cause(
    source: Source, content: bytes, words: str
) -> None:
    with pytest.raises(DataError, match=rf"t\.parquet: .*{words}"):
        source(content, "t.parquet")


def test_a_damaged_parquet_file_is_one_error(source: Source, tmp_path: Path) -> None:
    table = pa.table({"path": [f"{n}.jpg" for n in range(5000)], "raw_caption": [f"A cat {n}." for n in range(5000)]})
    pq.write_table(table, tmp_path / "whole.parquet")
    whole = bytearray((tmp_path / "whole.parquet").read_bytes())
    whole[200:2000] = bytes(1800)
    with pytest.raises(DataError, match=r"t\.parquet: cannot be read after row \d+ .*write it again"):
        source(bytes(whole), "t.parquet")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(CSV, mtime=0), "compressed by gzip"),
        (b"PK\x03\x04" + bytes(60), "a workbook of Excel"),
        (b'{"path": "a.jpg"}\n', "is JSON"),
        (b'\xef\xbb\xbf [{"path": "a.jpg"}]\n', "is JSON"),
        (b"<!doctype html><title>Sign in</title>", "is a web page or XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a pointer of Git LFS"),
        (b"\x80\x04\x95\0", "is a pickle of Python"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        (CSV.decode().encode("utf-16"), "is text in UTF-16"),
        (CSV.decode().encode("utf-32"), "is text in UTF-32"),
        (CSV.replace(b",", b":"), "separated by colons"),
        (CSV.replace(b",", b"^"), r"separated by the character '\^'"),
        (CSV.replace(b",", b"\1"), "separated by the character"),
        (b"a.jpg,A cat.\n", "the names of the columns must come first"),
        (b"\n" + CSV, "the names of the columns must come first"),
        (b"sep=,\n" + CSV, "the names of the columns must come first"),
        (CSV.replace(b",", b";"), "separated by semicolons, expected commas"),
        (b'"path";"long_caption"\n"a.jpg";"A cat."\n', "separated by semicolons"),
        (CSV.replace(b",", b"\t"), "separated by tabs"),
        (b"path, long_caption\na.jpg, A cat.\n", "begin or end with a space"),
        (CSV.replace(b"\n", b"\r"), "carriage returns, and lines end in a newline"),
        (b"PATH,Long_Caption\na.jpg,A cat.\n", r"did you mean path\?.*did you mean long_caption\?"),
        (b"path,url,long_caption\na,b,c\n", "A picture comes from one place"),
        (CSV.decode().encode("utf-16-le"), "line 1 is not UTF-8"),
        (b'"long\npath",x\n', r"found the columns long\?path, x"),
    ],
)
def test_another_form_is_refused_by_its_cause(source: Source, content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        source(content, "t.csv.gz" if content[:2] == b"\x1f\x8b" else "t.csv")
    assert "\n" not in str(caught.value)


def test_a_folder_of_parts_is_told_apart_from_nothing(source: Source, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    own = CustomCorpus(kind="custom", table="parts", expected_images=4)
    params = load_params(ROOT / "params.yaml")
    with_own = params.model_copy(update={"corpus": {**params.corpus, "mine": own}})
    with pytest.raises(DataError, match=r"parts: is a folder, and a table is one file; join its parts"):
        source_stage.main(with_own, argparse.Namespace(corpus="mine"))


def test_paths_do_not_go_with_packed_tars(source: Source) -> None:
    with pytest.raises(
        DataError, match="column path names files, but the pictures of this corpus come out of `packed`"
    ):
        source(CSV, packed="tars")
    assert len(source(CSV.replace(b"path", b"url").replace(b"a.jpg", b"s3:a.jpg"), packed="tars")) == 1


# ---- addresses, length, and shares

LOCAL = [
    *("file:///etc/passwd", "file:a.jpg", "FILE:/etc/passwd", " file:///a", "data:image/png;base64,iVBORw0KGgo="),
    *("URL:file:///etc/passwd", "<file:///etc/passwd>", "<URL:file:///a>", "local_file:///etc/passwd", "C:\\a.jpg"),
    *("ftp://a/3.jpg", "FTP://a/3.jpg"),  # not of this machine, and no answer of it could be ended
]


@pytest.mark.parametrize("address", LOCAL)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_address_that_is_not_the_webs_is_never_kept(source: Source, kind: str, address: str) -> None:
    web = ["http://a/file:1.jpg", "HTTPS://a/data:2.jpg", "https://a/3"]
    if kind == "csv":
        rows = "".join(f'"{url}",A cat.\n' for url in [*web, address])
        kept = source(f"url,raw_caption\n{rows}".encode())
    else:
        kept = source(pa.table({"url": [*web, address], "raw_caption": ["A cat."] * 4}), "t.parquet")
    assert [row["url"] for row in kept] == web
    assert dropped() == {"not_web": 1}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_one_limit_of_a_captions_length_for_both_kinds(source: Source, kind: str) -> None:
    lengths = [131_072, 131_073, 1_260_000, 5]
    texts = ["A red bus. " * (n // 11) + "x" * (n % 11) for n in lengths]
    names = [f"{n}.jpg" for n in range(4)]
    if kind == "csv":
        kept = source(
            ("path,raw_caption\n" + "".join(f"{a},{b}\n" for a, b in zip(names, texts, strict=True))).encode()
        )
    else:
        kept = source(pa.table({"path": names, "raw_caption": texts}), "t.parquet")
    assert [len(row["raw"]) for row in kept] == [131_072, 5]
    assert dropped() == {"bad_record": 2}
    rejected = pq.read_table("data/urls/mine.rejects.parquet").to_pylist()
    assert all("larger than field limit (131072)" in row["text"] for row in rejected)


def test_losses_are_logged_with_the_first_of_each_reason(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    rows = ["a.jpg,A cat.", ",A dog.", "b.jpg,", "c.jpg,x,y", "d.jpg,A bus.", "e.jpg,nan", "f.jpg,A", "g.jpg,B"]
    assert len(source(("path,raw_caption\n" + "\n".join(rows) + "\n").encode())) == 4
    (line,) = [record.getMessage() for record in caplog.records if "records are kept" in record.getMessage()]
    assert "mine: 4 of 8 records are kept" in line
    assert "{'bad_record': 1, 'no_caption': 2, 'null_url': 1}" in line
    for first in (
        "null_url in line 3",
        "no_caption in line 4 (file:b.jpg)",
        "bad_record in line 5 (3 fields, expected 2",
    ):
        assert first in line


def test_a_table_of_which_most_is_unusable_is_an_error_and_the_share_a_setting(source: Source) -> None:
    latin = "path,raw_caption\n" + "".join(f"{n}.jpg,Caf{'é' if n else 'e'} {n}\n" for n in range(8))
    with pytest.raises(
        DataError, match=r"1 of 8 records can be used \(12\.5%\).*minimum_usable.*bad_record in line 3"
    ) as e:
        source(latin.encode("latin-1"))
    assert "\n" not in str(e.value) and not list(Path("data/urls").glob("mine*"))
    assert len(source(latin.encode("latin-1"), minimum_usable=0.1)) == 1
    repeated = "path,raw_caption\n" + "a.jpg,A cat.\n" * 8  # captions of one picture in several rows: a loss, no flaw
    assert len(source(repeated.encode())) == 1 and dropped() == {"duplicate_url": 7}
