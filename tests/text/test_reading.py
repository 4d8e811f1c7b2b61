"""What is not read of long captions, counted by hand."""

import json
from pathlib import Path

import pytest

from benchmarks.reading import read, readings
from caft.errors import DataError

ROOM = 75  # tokens of a chunk: 77 less start and end
WORDS = ("cat", "dog", "car", "red", "sky", "sea", "man", "sun")


def sentence(word: str, tokens: int) -> str:
    """So many tokens: a word of one, again and again, and a stop."""
    return " ".join([word] * (tokens - 1)) + "."


def test_chunks_beyond_the_context_lose_their_end() -> None:
    # Two sentences a chunk: 80 + 10 tokens lose 15; 40 + 40 lose 5; 30 + 30 and 20 + 20 lose none. 270 in all.
    caption = " ".join(map(sentence, WORDS, (80, 10, 40, 40, 30, 30, 20, 20)))
    (four,) = readings([caption], "spacy", "paper", [4])
    assert four.cut == 50.0 and four.unseen == pytest.approx(100 * 20 / 270)
    # One sentence a chunk: only that of 80 is too long, by 5.
    (eight,) = readings([caption], "spacy", "paper", [8])
    assert eight.cut == 12.5 and eight.unseen == pytest.approx(100 * (80 - ROOM) / 270)


def test_captions_come_from_lines_and_folders(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"IIW": text}) + "\n\n" for text in "ab"))
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "1.txt").write_text("c")
    (folder / "1.jpg").write_text("")
    assert read([tmp_path / "rows.jsonl", folder], "IIW") == ["a", "b", "c"]
    with pytest.raises(DataError, match=r"rows.jsonl, line 1: no caption in field caption; it has IIW"):
        read([tmp_path / "rows.jsonl"], "caption")
    with pytest.raises(DataError, match="absent: No such file"):
        read([tmp_path / "absent"], "caption")
