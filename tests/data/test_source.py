"""CSV to Parquet: every flaw is counted with its line, nothing else is lost, and bytes repeat."""

import csv
import json
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caft.data.tables import source
from caft.data.tables.source import convert_table
from caft.errors import DataError

HEADER = (
    "Image Path,raw_caption,shortIB_captions,longIB_captions,shortSV_captions,longSV_captions,"
    "shortLLA_captions,longLLA_captions"
)
CAPTIONS = ["raw", "short_ib", "long_ib", "short_sv", "long_sv", "short_lla", "long_lla"]

# One flaw a line, or none; the comments give the row id.
FLAWED = (
    HEADER.encode() + b"\n"
    b"http://a/0.jpg,raw,one,One. Two.,sv,SV.,lla,LLA.\n"  # 0
    b'http://a/1.jpg,raw,"with, comma","First line.\nSecond ""quoted"" line.",sv,SV.,lla,LLA.\n'  # 1, lines 3 and 4
    b",raw,one,One.,sv,SV.,lla,LLA.\n"  # 2: no address
    b"None,raw,one,One.,sv,SV.,lla,LLA.\n"  # 3: what a data frame writes for one
    b"http://a/4.jpg,,,  ,,,,\n"  # 4: no caption
    b"http://a/0.jpg,again,one,One.,sv,SV.,lla,LLA.\n"  # 5: address of row 0
    b"http://a/6.jpg,raw,one\n"  # 6: fields are missing
    b"\n"  # an empty line is no record
    b"http://a/7.jpg,raw,caf\xe9,One.,sv,SV.,lla,LLA.\n"  # 7: Latin-1
    b" http://a/8.jpg ,None,NA,nan,null,\xe2\x80\x9cSV\xe2\x80\x9d.,lla,LLA.\n"  # 8: words that look like missing ones
    b"http://a/4.jpg,raw,,,,,,\n"  # 9: address of row 4, which was left out
    b"http://a/8.jpg,raw,one,One.,sv,SV.,lla,LLA.\n"  # 10: address of row 8 once trimmed
)


@pytest.fixture
def convert(tmp_path: Path) -> Callable[..., Path]:
    def run(content: bytes, name: str = "cc3m") -> Path:
        (tmp_path / "list.csv").write_bytes(content)
        convert_table(tmp_path / "list.csv", name, tmp_path / "urls", tmp_path / "work")
        return tmp_path / "urls"

    return run


def left_over(work: Path) -> list[Path]:
    return [path for path in work.rglob("*") if path.is_file() and path.name not in (".lock", ".lock-holder")]


def test_every_flaw_is_counted_and_the_rest_is_kept(convert: Callable[..., Path]) -> None:
    folder = convert(FLAWED)
    kept = pq.read_table(folder / "cc3m.parquet").to_pylist()
    assert [(row["row_id"], row["url"]) for row in kept] == [
        (0, "http://a/0.jpg"),
        (1, "http://a/1.jpg"),
        (8, "http://a/8.jpg"),
        (9, "http://a/4.jpg"),
    ]
    summary = json.loads((folder / "cc3m.json").read_text())
    assert summary["rows_in"] == 11 and summary["rows_out"] == 4
    assert summary["dropped"] == {"bad_record": 2, "duplicate_url": 2, "no_caption": 1, "null_url": 2}
    rejects = pq.read_table(folder / "cc3m.rejects.parquet").to_pylist()
    assert [(row["row_id"], row["line"], row["reason"]) for row in rejects] == [
        (2, 5, "null_url"),
        (3, 6, "null_url"),
        (4, 7, "no_caption"),
        (5, 8, "duplicate_url"),
        (6, 9, "bad_record"),
        (7, 11, "bad_record"),
        (10, 14, "duplicate_url"),
    ]
    texts = {row["row_id"]: row["text"] for row in rejects}
    assert texts[6] == "3 fields, expected 8: http://a/6.jpg,raw,one"
    assert texts[7].startswith("not UTF-8: http://a/7.jpg")
    assert texts[10] == "http://a/8.jpg"


def test_captions_are_stored_as_they_are(convert: Callable[..., Path]) -> None:
    rows = {row["row_id"]: row for row in pq.read_table(convert(FLAWED) / "cc3m.parquet").to_pylist()}
    assert rows[1]["short_ib"] == "with, comma"
    assert rows[1]["long_ib"] == 'First line.\nSecond "quoted" line.'
    assert [rows[8][name] for name in CAPTIONS[:5]] == [None, None, None, None, "“SV”."]
    assert [rows[9][name] for name in CAPTIONS] == ["raw", None, None, None, None, None, None]


def test_the_source_is_pinned_by_name_size_and_digest(convert: Callable[..., Path], tmp_path: Path) -> None:
    import hashlib

    summary = json.loads((convert(FLAWED) / "cc3m.json").read_text())
    assert summary["source"] == {
        "file": "list.csv",
        "bytes": len(FLAWED),
        "sha256": hashlib.sha256(FLAWED).hexdigest(),
    }
    assert str(tmp_path) not in json.dumps(summary)


def test_twice_the_same_source_gives_equal_bytes_and_leaves_nothing_else(
    convert: Callable[..., Path], tmp_path: Path
) -> None:
    first = {path.name: path.read_bytes() for path in convert(FLAWED).iterdir()}
    second = {path.name: path.read_bytes() for path in convert(FLAWED).iterdir()}
    assert first == second
    assert set(first) == {"cc3m.parquet", "cc3m.rejects.parquet", "cc3m.json"}
    assert left_over(tmp_path / "work") == []


def test_what_a_killed_run_left_in_the_work_folder_is_removed(convert: Callable[..., Path], tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from caft.data.tables import source\n"
        "source._repeated = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "source.convert_table(*map(Path, sys.argv[1:2]), 'cc3m', *map(Path, sys.argv[2:]))\n"
    )
    (tmp_path / "list.csv").write_bytes(FLAWED)
    paths = [str(tmp_path / name) for name in ("list.csv", "urls", "work")]
    killed = subprocess.run([sys.executable, "-c", program, *paths], cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in left_over(tmp_path / "work")] == ["records.parquet"]
    assert not (tmp_path / "urls/cc3m.parquet").exists()
    assert pq.read_table(convert(FLAWED) / "cc3m.parquet").num_rows == 4
    assert left_over(tmp_path / "work") == []


def test_byte_order_mark_and_windows_line_ends_are_taken(convert: Callable[..., Path]) -> None:
    content = (
        b"\xef\xbb\xbf" + HEADER.encode() + b"\r\nhttp://a/0.jpg,a,b,c,d,e,f,g\r\nhttp://a/1.jpg,a,b,c,d,e,f,g\r\n"
    )
    table = pq.read_table(convert(content) / "cc3m.parquet")
    assert table["url"].to_pylist() == ["http://a/0.jpg", "http://a/1.jpg"]
    assert table["long_lla"].to_pylist() == ["g", "g"]


def test_columns_are_taken_by_name(convert: Callable[..., Path]) -> None:
    names = HEADER.split(",")
    content = (
        ",".join(["index", *reversed(names)])
        + "\n0,long lla,short lla,long sv,short sv,long ib,short ib,raw,http://a\n"
    )
    (row,) = pq.read_table(convert(content.encode()) / "cc3m.parquet").to_pylist()
    assert row == {
        "row_id": 0,
        "url": "http://a",
        "raw": "raw",
        **{name: name.replace("_", " ") for name in CAPTIONS[1:]},
    }


def test_a_quote_that_is_never_closed_costs_one_record_not_the_rest_of_the_file(convert: Callable[..., Path]) -> None:
    good = "".join(f"http://a/{number}.jpg,raw,one,One.,sv,SV.,lla,LLA.\n" for number in range(8000))
    lines = good.splitlines(keepends=True)
    lines[100] = 'http://a/100.jpg,"raw,one,One.,sv,SV.,lla,LLA.\n'
    folder = convert((HEADER + "\n" + "".join(lines)).encode())
    (rejected,) = pq.read_table(folder / "cc3m.rejects.parquet").to_pylist()
    assert (rejected["line"], rejected["reason"]) == (102, "bad_record")
    assert "lines 102 to" in rejected["text"] and "field limit" in rejected["text"]
    urls = pq.read_table(folder / "cc3m.parquet")["url"].to_pylist()
    assert urls[:100] == [f"http://a/{number}.jpg" for number in range(100)]
    assert urls[-1] == "http://a/7999.jpg" and len(urls) > 4000


def test_a_missing_file_says_where_it_comes_from_and_where_it_belongs(tmp_path: Path) -> None:
    path = tmp_path / "cc3m_3long_3short_1raw_captions_url.csv"
    with pytest.raises(DataError) as caught:
        convert_table(path, "cc3m", tmp_path / "urls", tmp_path / "work")
    message = str(caught.value)
    assert message.startswith(f"{path}: the captions of corpus cc3m are not there.")
    assert "qidouxiong619/dreamlip_long_captions" in message and "corpus.cc3m.csv" in message
    assert not (tmp_path / "urls").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "line 1 lacks the columns Image Path, raw_caption, .*found: nothing; expected: Image Path"),
        (
            HEADER.replace("Image Path", "url").encode() + b"\nhttp://a,1,2,3,4,5,6,7\n",
            "line 1 lacks the columns Image Path; found: url, raw_caption, .*expected: Image Path, raw_caption",
        ),
        (HEADER.encode() + b"\n", "of 0 records none can be used"),
        (HEADER.encode() + b"\n,1,2,3,4,5,6,7\n", r"of 1 records none can be used; dropped were \{'null_url': 1\}"),
    ],
)
def test_an_unusable_file_is_one_clear_error_and_leaves_no_output(
    convert: Callable[..., Path], tmp_path: Path, content: bytes, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        convert(content)
    assert list((tmp_path / "urls").glob("*")) == []
    assert left_over(tmp_path / "work") == []


MISSING = {"nan", "-nan", "none", "null", "nil", "na", "n/a", "nat", "<na>", "#na", "#n/a", "\\n"}
# Letters, digits, punctuation, symbols and spaces; what cannot be seen has tests of its own.
SEEN = st.text(
    st.characters(categories=["L", "N", "P", "S", "Zs"], exclude_characters="&<\u02bc\u115f\u1160\u2800\u3164\uffa0"),
    max_size=4,
)
SEEN = SEEN | st.sampled_from(sorted(MISSING))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["", "http://a", "http://b", "http://c", "http://d"]), SEEN),
        min_size=1,
        max_size=30,
    )
)
def test_any_table_comes_out_as_a_plain_loop_would_have_it(
    rows: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "ROWS_AT_ONCE", 4)  # so that a table spans several batches
    path = tmp_path / "any.csv"
    with path.open("w", newline="", encoding="utf-8", errors="ignore") as file:
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerow(HEADER.split(","))
        writer.writerow(["http://first", *"abcdefg"])
        for url, text in rows:
            writer.writerow([url, text, "", "", "", "", "", ""])
    seen: set[str] = set()
    expected_rows, expected_reasons = [(0, "http://first", "a")], []
    for row_id, (url, text) in enumerate(rows, start=1):
        if not url:
            expected_reasons.append((row_id, "null_url"))
        elif not any(c.isalnum() or unicodedata.category(c) == "So" for c in text) or text.strip().lower() in MISSING:
            expected_reasons.append((row_id, "no_caption"))
        elif url in seen:
            expected_reasons.append((row_id, "duplicate_url"))
        else:
            seen.add(url)
            expected_rows.append((row_id, url, text))
    convert_table(path, "any", tmp_path / "urls", tmp_path / "work")
    kept = pq.read_table(tmp_path / "urls/any.parquet").to_pylist()
    assert [(row["row_id"], row["url"], row["raw"]) for row in kept] == expected_rows
    rejects = pq.read_table(tmp_path / "urls/any.rejects.parquet").to_pylist()
    assert [(row["row_id"], row["reason"]) for row in rejects] == expected_reasons


def test_row_groups_are_even_however_many_rows_are_left_out(
    convert: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "ROWS_AT_ONCE", 100)
    lines = [f"http://a/{number % 700}.jpg,raw,,,,,,\n" for number in range(1000)]
    folder = convert((HEADER + "\n" + "".join(lines)).encode())
    good, bad = (pq.ParquetFile(folder / name).metadata for name in ("cc3m.parquet", "cc3m.rejects.parquet"))
    assert [good.row_group(group).num_rows for group in range(good.num_row_groups)] == [100] * 7
    assert [bad.row_group(group).num_rows for group in range(bad.num_row_groups)] == [100] * 3
