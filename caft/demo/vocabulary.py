"""CLIP's byte pairs, as a page needs them, from the tokenizer that is installed."""

import functools
from collections.abc import Iterator
from typing import Any

# Ids are those of 256 bytes, of the same bytes at a word's end, of the pairs in order of their rank, and two more.
_BYTES = 256
_TOKENS = 49408
_WORD_END = "</w>"
# What completes the characters whose bytes a token begins or ends within: bytes before it, and bytes after.
_BEFORE = (b"", b"\xc3", b"\xe2", b"\xe2\x80", b"\xf0", b"\xf0\x9f", b"\xf0\x9f\x98")
_AFTER = (b"", b"\xa0", b"\x80", b"\xa0\x80", b"\x80\x80", b"\xa0\x80\x80", b"\x80\x80\x80")


@functools.cache
def merges() -> tuple[tuple[str, str], ...]:
    """The 48,894 pairs by rank, as CLIP's file writes them: bytes as printable characters, `</w>` at a word's end.

    Raises:
        ImportError: As `caft.captions.tokenizer.encode`.
    """
    try:
        from instant_clip_tokenizer import Tokenizer
    except ImportError:
        from open_clip.tokenizer import SimpleTokenizer  # type: ignore[import-not-found]

        return tuple(SimpleTokenizer().bpe_ranks)
    return tuple(_pairs(_tokens(Tokenizer())))


def _tokens(tokenizer: Any) -> list[str]:
    """All tokens but the last two, spelt as in CLIP's file; the tokenizer itself says them as text only."""
    letters = _letters()
    ids = {byte: number for number, byte in enumerate(letters)}
    found = [*letters.values(), *(letter + _WORD_END for letter in letters.values())]
    for number in range(2 * _BYTES, _TOKENS - 2):
        ends = tokenizer.decode([number]).endswith(" ")
        # Nothing makes another character of the one that stands for broken ones.
        content = next(_contents(tokenizer, number, ids, ends), "\ufffd".encode())
        found.append("".join(letters[byte] for byte in content) + (_WORD_END if ends else ""))
    return found


def _contents(tokenizer: Any, number: int, ids: dict[int, int], ends: bool) -> Iterator[bytes]:
    """The bytes of a token, by what else is needed to make whole characters of them."""
    for after in _AFTER:
        for before in _BEFORE:
            text = tokenizer.decode([*(ids[byte] for byte in before), number, *(ids[byte] for byte in after)])
            if "\ufffd" in text:
                continue
            content: bytes = text.encode()
            content = content.removeprefix(before)
            content = content.removesuffix(after)
            yield content.removesuffix(b" ") if ends else content


def _letters() -> dict[int, str]:
    """A printable character for each byte, in the order of their ids: printable ones stand for themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(_BYTES) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(_BYTES + place) for place, byte in enumerate(others)}


def _pairs(tokens: list[str]) -> Iterator[tuple[str, str]]:
    """The two tokens that make each token: what is left of it when the pairs of lower rank are joined."""
    rank = dict[tuple[str, str], int]()
    for token in tokens[2 * _BYTES :]:
        word = token.removesuffix(_WORD_END)
        parts = [*word[:-1], word[-1] + token[len(word) :]]
        while len(parts) > 2:
            place = min(range(len(parts) - 1), key=lambda at: rank.get((parts[at], parts[at + 1]), _TOKENS))
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        left, right = parts
        rank[left, right] = len(rank)
        yield left, right
