"""Repeats and flaws against tables made by hand, and against a plain loop."""

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caft.data.tables.schema import CAPTIONS, FIELDS, URLS
from caft.errors import DataError
from caft.eval.analysis.audit import EMPTY, EXAMPLES, FLAWS, LETTERS, MANY, SHORT, Audit, audit

SHORT_FLAW, FOREIGN, LINK = FLAWS
Row = dict[str, str | None]  # url, sha256 and captions; what is left out is null


def audited(folder: Path, corpora: Mapping[str, Sequence[Row]]) -> dict[str, Audit]:
    """Of corpora whose row ids count from 10; two shards each; a row without sha256 has no image."""
    for name, rows in corpora.items():
        (folder / "captions" / name).mkdir(parents=True)
        (folder / "urls").mkdir(exist_ok=True)
        numbered = [{"row_id": 10 + place, **row} for place, row in enumerate(rows)]
        pq.write_table(pa.Table.from_pylist(numbered, URLS), folder / f"urls/{name}.parquet")
        came = [row for row in numbered if row.get("download_sha256")]
        for shard, part in enumerate((came[::2], came[1::2])):
            pq.write_table(pa.Table.from_pylist(part, CAPTIONS), folder / f"captions/{name}/{shard:05d}.parquet")
    return audit(list(corpora), folder / "urls", folder / "captions", folder / "work", memory_gb=1)


def test_repeats_are_those_made(tmp_path: Path) -> None:
    one: list[Row] = [
        {"url": "u0", "download_sha256": "a", "raw": "a red bus", "long_sv": "A bus. It waits."},
        {"url": "u1", "download_sha256": "b", "raw": "a red bus", "long_sv": "Another."},
        {"url": "u2", "download_sha256": "a", "raw": "a blue cat", "long_sv": "A bus. It waits."},
        {"url": "u3", "download_sha256": "c", "raw": "a blue cat", "long_sv": None},
        {"url": "u4", "download_sha256": "d", "raw": "a red bus", "long_sv": " "},
        {
            "url": "u5",
            "download_sha256": "e",
            "raw": "A red bus",
            "long_sv": None,
        },  # another value than with a small letter
        {"url": "u6", "download_sha256": None, "raw": "a red bus"},  # lost
    ]
    two: list[Row] = [
        {"url": "u6", "download_sha256": "c", "raw": "a blue cat"},
        {"url": "u1", "download_sha256": "f", "raw": "one more", "long_ib": "A bus. It waits."},
        {"url": "v1", "download_sha256": "f", "raw": "a green tree"},
    ]
    found = audited(tmp_path, {"one": one, "two": two})
    assert (found["one"].addresses, found["one"].images) == (7, 6)
    assert (found["two"].addresses, found["two"].images) == (3, 3)

    def of(name: str, column: str) -> tuple[int, ...]:
        entry = found[name].repeats[column]
        return entry.values, entry.rows, entry.shared_values, entry.shared_rows

    assert of("one", "url") == (0, 0, 2, 2) == of("two", "url")
    assert of("one", "download_sha256") == (1, 2, 1, 1)
    assert of("two", "download_sha256") == (1, 2, 1, 1)
    assert of("one", "raw") == (2, 5, 1, 2)
    assert of("two", "raw") == (0, 0, 1, 1)
    assert of("one", "long_sv") == (1, 2, 0, 0)  # of another field of two: not the same column
    assert of("one", "long_ib") == (0, 0, 0, 0) == of("two", "long_ib")
    assert found["one"].repeats["raw"].top == [(3, "a red bus"), (2, "a blue cat")]
    assert found["two"].repeats["raw"].top == []
    assert not found["one"].repeats["download_sha256"].top


def test_flaws_are_those_made(tmp_path: Path) -> None:
    captions = [
        None, "", " \n\t", "bus", "red bus", " red\nbus ", "a red bus", "наш красный bus", "наш красный big bus waits",
        "see HTTPS://x.org/1 for it", "photo from www.x.org of it", "awwward of httpd: it", "猫", "é" * 500 + " b c",
    ]  # fmt: skip
    rows: list[Row] = [
        {"url": str(i), "download_sha256": str(i), "raw": "x", "long_lla": c} for i, c in enumerate(captions)
    ]
    found = audited(tmp_path, {"one": rows})["one"]
    flaws = found.flaws["long_lla"]
    assert list(flaws) == [EMPTY, *FLAWS]
    assert flaws[EMPTY].count == 3 and not flaws[EMPTY].examples
    assert flaws[SHORT_FLAW].count == 4
    assert flaws[SHORT_FLAW].examples == [(13, "bus"), (14, "red bus"), (15, " red\nbus ")]
    assert flaws[FOREIGN].count == 3
    assert flaws[FOREIGN].examples == [(17, "наш красный bus"), (22, "猫"), (23, "é" * LETTERS + " …")]
    assert flaws[LINK].count == 2
    assert [row for row, _ in flaws[LINK].examples] == [19, 20]
    assert found.repeats["raw"].many_rows == len(rows) >= MANY and found.repeats["long_lla"].many_rows == 0
    assert all(entry.count == len(rows) for entry in (found.flaws["short_ib"][EMPTY], found.flaws["raw"][SHORT_FLAW]))


def flaws_of(text: str) -> list[str]:
    if not text.split():
        return [EMPTY]
    tests = {
        SHORT_FLAW: len(text.split()) < SHORT,
        FOREIGN: sum(not letter.isascii() for letter in text) > len(text) / 2,
        LINK: bool(re.search(r"https?://|www\.", text, re.IGNORECASE)),
    }
    return [name for name, is_so in tests.items() if is_so]


@pytest.mark.parametrize("seed", range(3))
def test_all_counts_are_those_of_a_plain_loop(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    words = ["bus", "É", "猫猫", "🚌", "http://x", "WWW.y", "it's", "ß", "a"]

    def caption() -> str:
        return "".join(
            rng.choice(words) + rng.choice([" ", "\n", "  ", ""]) for _ in range(rng.choice((0, 1, 1, 2, 5)))
        )

    corpora: dict[str, list[Row]] = {
        name: [
            {
                "url": f"u{rng.randrange(80)}",
                "download_sha256": f"s{rng.randrange(80)}",
                **{f: caption() for f in FIELDS},
            }
            for _ in range(60 + 20 * seed)
        ]
        for name in ("one", "two", "three")[: seed + 1]
    }
    found = audited(tmp_path, corpora)
    for name, rows in corpora.items():
        for column in ("url", "download_sha256", *FIELDS):
            counts = {
                other: Counter(str(row[column]) for row in others if str(row[column]).split())
                for other, others in corpora.items()
            }
            own = counts.pop(name)
            often = [count for count in own.values() if count > 1]
            shared = [count for value, count in own.items() if any(value in other for other in counts.values())]
            entry = found[name].repeats[column]
            assert (entry.values, entry.rows) == (len(often), sum(often))
            assert (entry.shared_values, entry.shared_rows) == (len(shared), sum(shared))
            assert entry.many_rows == sum(count for count in own.values() if count >= MANY)
            if column in FIELDS:
                assert [count for count, _ in entry.top] == sorted(often, reverse=True)[:EXAMPLES]
                assert all(own[text] == count for count, text in entry.top)
        for field in FIELDS:
            texts = [(10 + place, str(row[field])) for place, row in enumerate(rows)]
            for flaw, told in found[name].flaws[field].items():
                flawed = [(row, text) for row, text in texts if flaw in flaws_of(text)]
                assert told.count == len(flawed)
                assert list(told.examples) == ([] if flaw == EMPTY else flawed[:EXAMPLES])


def test_missing_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.parquet: not found"):
        audit(["nowhere"], tmp_path, tmp_path, tmp_path)
