"""Flaws of published tables beyond those of tests/data/test_source.py: quotes, encodings, sizes, and the exit code."""

import runpy
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from caft.data.tables.source import convert_table
from caft.errors import DataError

PROJECT = Path(__file__).parents[2]
HEADER = (
    "Image Path,raw_caption,shortIB_captions,longIB_captions,shortSV_captions,longSV_captions,"
    "shortLLA_captions,longLLA_captions\n"
)


def lines(count: int) -> list[str]:
    """Records with a quoted field each, as most published ones have."""
    return [f'http://a/{n}.jpg,raw {n},one,"One, two. Three.",sv,"SV ""x"", y.",lla,LLA.\n' for n in range(count)]


def convert(folder: Path, content: bytes) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    (folder / "list.csv").write_bytes(content)
    convert_table(folder / "list.csv", "one", folder / "urls", folder / "work")
    kept, rejected = (pq.read_table(folder / f"urls/one{end}.parquet") for end in ("", ".rejects"))
    return kept.to_pylist(), rejected.to_pylist()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('http://a/5.jpg,"raw,one,One.,sv,SV.,lla,LLA.\n', "',' expected after '\"'"),  # never closed
        ('http://a/5.jpg,"raw"5,one,One.,sv,SV.,lla,LLA.\n', "',' expected after '\"'"),  # closed too early
    ],
)
@pytest.mark.parametrize("place", [0, 5, 9])
def test_a_bad_quote_costs_its_line_and_no_other(tmp_path: Path, line: str, problem: str, place: int) -> None:
    records = lines(10)
    records[place] = line
    kept, rejected = convert(tmp_path, (HEADER + "".join(records)).encode())
    assert [row["url"] for row in kept] == [f"http://a/{n}.jpg" for n in range(10) if n != place]
    assert [row["row_id"] for row in kept] == [n for n in range(10) if n != place]
    assert [(row["row_id"], row["line"], row["reason"]) for row in rejected] == [(place, place + 2, "bad_record")]
    # At the end of the file there is no other quote to stumble over.
    assert problem in rejected[0]["text"] or (place == 9 and "unexpected end of data" in rejected[0]["text"])


def test_a_carriage_return_in_a_caption_is_kept_as_pandas_writes_it(tmp_path: Path) -> None:
    captions = ["A red\rtruck.", "\rA dog.", 'A "sign",\rworn.', "A\ncat.\rIt sleeps.", "A bird."]
    rows = [[f"http://a/{n}.jpg", raw, *(f"{n}{place}\rx." for place in range(6))] for n, raw in enumerate(captions)]
    content = pd.DataFrame(rows, columns=HEADER.strip().split(",")).to_csv(index=False, lineterminator="\n")
    assert "A red\rtruck.,00\rx." in content  # without quotes
    kept, rejected = convert(tmp_path, content.encode())
    assert [[row["url"], row["raw"], row["long_lla"]] for row in kept] == [[row[0], row[1], row[7]] for row in rows]
    assert not rejected


def test_carriage_returns_at_the_end_of_a_line_are_no_part_of_it(tmp_path: Path) -> None:
    records = [f"http://a/{n}.jpg,raw {n},one,One.,sv,SV.,lla,LLA." for n in range(3)]
    for end in ("\n", "\r\n", "\r\r\n"):  # the last as Python writes them on Windows to a file in text mode
        kept, rejected = convert(tmp_path, end.join([HEADER.strip(), *records, ""]).encode())
        assert [row["long_lla"] for row in kept] == ["LLA."] * 3 and not rejected


def test_one_line_that_is_not_utf8_inside_a_bad_quote_is_told_apart(tmp_path: Path) -> None:
    records = [record.encode() for record in lines(6)]
    records[1] = b'http://a/1.jpg,"raw,one,One.,sv,SV.,lla,LLA.\n'
    records[3] = b"http://a/3.jpg,caf\xe9,one,One.,sv,SV.,lla,LLA.\n"
    kept, rejected = convert(tmp_path, HEADER.encode() + b"".join(records))
    assert [row["url"] for row in kept] == [f"http://a/{n}.jpg" for n in (0, 2, 4, 5)]
    assert [(row["line"], str(row["text"])[:9]) for row in rejected] == [(3, "lines 3 t"), (5, "not UTF-8")]


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_a_whole_file_in_another_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    header = HEADER if encoding == "utf-16" else HEADER.replace("raw", "räw")
    found = "is text in UTF-16, expected" if encoding == "utf-16" else "line 1 is not UTF-8"
    with pytest.raises(DataError, match=rf"list\.csv: {found}.*convert it.*iconv"):
        convert(tmp_path, (header + "".join(lines(3))).encode(encoding))
    assert not list((tmp_path / "urls").glob("*"))


def test_a_caption_of_100_kb_is_kept_and_one_beyond_the_limit_is_counted(tmp_path: Path) -> None:
    long = "A red bus. " * 9_100  # 100,100 characters
    records = lines(4)
    records[1] = f'http://a/1.jpg,raw,one,"{long}",sv,SV.,lla,LLA.\n'
    records[2] = f'http://a/2.jpg,raw,one,"{long * 2}",sv,SV.,lla,LLA.\n'
    kept, rejected = convert(tmp_path, (HEADER + "".join(records)).encode())
    assert [row["url"] for row in kept] == [f"http://a/{n}.jpg" for n in (0, 1, 3)]
    assert kept[1]["long_ib"] == long
    assert [row["line"] for row in rejected] == [4] and "field larger than field limit" in rejected[0]["text"]


def test_the_stage_ends_with_2_and_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load((PROJECT / "params.yaml").read_text())
    settings["corpus"]["cc3m"]["csv"] = "list.csv"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "list.csv").write_text(HEADER.replace("longSV_captions,", "") + "http://a,1,2,3,4,5,6\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAFT_STORAGE", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["source", "cc3m"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("pipelines.source", run_name="__main__")
    assert ended.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: list.csv: line 1 lacks the columns longSV_captions; found: Image Path, raw_")
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file()] == []
