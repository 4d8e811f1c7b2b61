"""The tokenizer against rows that open_clip's own produced (tests/golden/tokenizer.json)."""

import gzip
import html
import json
import sys
from pathlib import Path

import ftfy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from caft.captions import tokenizer

FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = json.loads((FOLDER / "tokenizer.json").read_text())
PLAIN = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="&"))


@pytest.mark.parametrize(("text", "ids"), list(zip(GOLDEN["texts"], GOLDEN["ids"], strict=True)))
def test_ids_are_those_of_open_clip(text: str, ids: list[int]) -> None:
    assert tokenizer.encode(text) == ids


def test_ids_of_a_large_mixed_text_are_those_of_open_clip() -> None:
    """Captions, odd pieces of them, seventeen blocks of Unicode, entities and contractions."""
    mixed = json.loads(gzip.decompress((FOLDER / "tokenizer_mixed.json.gz").read_bytes()))
    assert len(mixed["texts"]) == 1752 and sum(map(len, mixed["ids"])) == 87_359
    wrong = [text for text, ids in zip(mixed["texts"], mixed["ids"], strict=True) if tokenizer.encode(text) != ids]
    assert not wrong


def test_rows_are_those_of_open_clip() -> None:
    assert torch.equal(tokenizer.tokenize(GOLDEN["texts"]), torch.tensor(GOLDEN["rows"]))


def test_a_text_that_is_too_long_is_cut_and_ends_in_the_end_token() -> None:
    row = tokenizer.tokenize("red " * 100, context_length=10)[0].tolist()
    assert row == [49406] + tokenizer.encode("red") * 8 + [49407]


def test_a_text_that_just_fits_is_not_cut() -> None:
    ids = tokenizer.encode("red " * 8)
    assert tokenizer.tokenize("red " * 8, context_length=10)[0].tolist() == [49406, *ids, 49407]


@given(PLAIN)
def test_repair_leaves_plain_text_alone(text: str) -> None:
    assert tokenizer.is_plain(text)
    assert html.unescape(html.unescape(ftfy.fix_text(text))) == text


@given(st.lists(PLAIN, max_size=5))
def test_ids_of_plain_texts_can_be_joined_at_spaces(texts: list[str]) -> None:
    joined = [identifier for text in texts for identifier in tokenizer.encode(text)]
    assert tokenizer.encode(" ".join(texts)) == joined


@pytest.mark.parametrize("text", ["a & b", "caf\u00e9", "a\nb", "\x1b[31m", "\u201cx\u201d"])
def test_what_may_need_repair_is_not_plain(text: str) -> None:
    assert not tokenizer.is_plain(text)


def test_a_missing_package_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "instant_clip_tokenizer", None)
    monkeypatch.setitem(sys.modules, "open_clip.tokenizer", None)
    with pytest.raises(ImportError, match="pip install instant-clip-tokenizer"):
        tokenizer._encoder.__wrapped__()
