"""Sentences of a caption, as spans of code points in the unmodified text."""

import functools
import re
from collections.abc import Iterable, Sequence
from typing import Literal

Splitter = Literal["spacy", "dreamlip"]
SPLITTERS: tuple[Splitter, ...] = ("spacy", "dreamlip")

# What always ends a sentence, for both splitters: a newline and DreamLIP's end mark.
_HARD_BREAK = re.compile(r"\n|</s>")
_DREAMLIP_BREAK = re.compile(r"\n|</s>|\.")
# Ends that spaCy's sentencizer does not know.
_MORE_ENDS = ("…", "...")
# A piece that starts in lower case, or is as short as this, continues the sentence before it ("No." "38").
_FRAGMENT = 3


def spans(text: str, splitter: Splitter = "spacy") -> list[tuple[int, int]]:
    """Start and end of each sentence, in code points.

    Args:
        text: A caption.
        splitter: "dreamlip" cuts at newlines, the literal `</s>` and every full stop, which is lost, as DreamLIP and
            FLAIR do; "spacy" cuts at the first two and where spaCy's rule-based sentencizer ends a sentence.

    Returns:
        Sorted, disjoint spans without white space at either end, none empty.

    Raises:
        ValueError: The splitter is unknown.
    """
    return many_spans([text], splitter)[0]


def split(text: str, splitter: Splitter = "spacy") -> list[str]:
    """Sentences of a text; see `spans`."""
    return [text[start:end] for start, end in spans(text, splitter)]


def many_spans(texts: Sequence[str], splitter: Splitter) -> list[list[tuple[int, int]]]:
    """`spans` of many texts; with spaCy much faster than one by one."""
    if splitter == "dreamlip":
        return [_stripped(text, _between(text, _DREAMLIP_BREAK)) for text in texts]
    if splitter != "spacy":
        raise ValueError(f"splitter is '{splitter}', expected one of {', '.join(SPLITTERS)}")
    pieces = [_stripped(text, _between(text, _HARD_BREAK)) for text in texts]
    flat = [text[start:end] for text, found in zip(texts, pieces, strict=True) for start, end in found]
    sentences = iter(_sentencizer().pipe(flat, batch_size=256))
    result = []
    for text, found in zip(texts, pieces, strict=True):
        own: list[tuple[int, int]] = []
        for start, _ in found:
            own += _merged(
                text,
                _stripped(text, [(start + s.start_char, start + s.end_char) for s in next(sentences).sents]),
            )
        result.append(own)
    return result


def versions() -> dict[str, str]:
    """Name and version of each splitter, for the metadata of files."""
    import spacy

    return {"spacy": f"blank-en sentencizer {spacy.__version__}, rules 1", "dreamlip": "rules 1"}


@functools.cache
def _sentencizer():  # type: ignore[no-untyped-def]  # spaCy is imported only when asked for
    import spacy

    language = spacy.blank("en")
    punctuation = ["!", "?", ".", "。", "！", "？", *_MORE_ENDS]
    language.add_pipe("sentencizer", config={"punct_chars": punctuation})
    return language


def _between(text: str, pattern: re.Pattern[str]) -> Iterable[tuple[int, int]]:
    start = 0
    for match in pattern.finditer(text):
        yield start, match.start()
        start = match.end()
    yield start, len(text)


def _stripped(text: str, found: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans without white space at their ends; those that hold nothing else are dropped."""
    result = []
    for start, end in found:
        piece = text[start:end]
        start += len(piece) - len(piece.lstrip())
        end = start + len(piece.strip())
        if end > start:
            result.append((start, end))
    return result


def _merged(text: str, found: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Joins fragments to the sentence before them."""
    result: list[tuple[int, int]] = []
    for start, end in found:
        fragment = end - start <= _FRAGMENT or text[start].islower() or text[start].isdigit()
        if result and fragment:
            result[-1] = (result[-1][0], end)
        else:
            result.append((start, end))
    return result
