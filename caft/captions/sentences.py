"""Sentences of a caption, as spans of code points in the unmodified text."""

import functools
import logging
import re
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import Literal

from caft.captions.sentencizer import FRAGMENT, Marks, Sentencizer, Span, has_endless_word

logger = logging.getLogger(__name__)

Splitter = Literal["spacy", "dreamlip"]
SPLITTERS: tuple[Splitter, ...] = ("spacy", "dreamlip")

# What always ends a sentence, for both splitters: a line break, as any system writes it, and DreamLIP's end mark.
_LINE = r"[\n\r\v\f\x85\u2028\u2029]"
_HARD_BREAK = re.compile(rf"{_LINE}|</s>")
_DREAMLIP_BREAK = re.compile(rf"{_LINE}|</s>|\.")
# An end in Chinese or Japanese, where no white space follows, and in Hindi, Arabic, Urdu, Burmese or Amharic, where it may
# not, with the marks that close it. What a closed quotation is part of goes on: "said" in Japanese.
_WIDE_CLOSING = "[」』）】》〉”’)\\]]"
_WIDE_END = re.compile(
    r"(?:[。｡।॥؟۔။።]|(?<=[^\x00-\x7f])[！？]|[！？](?=[^\x00-\x7f]))[。｡।॥؟۔။።！？…]*"
    rf"(?:{_WIDE_CLOSING}+(?!{_WIDE_CLOSING}|と|って)|(?!{_WIDE_CLOSING}))"
)
# An opening quote or bracket that the sentencizer leaves at the end of the sentence before.
_OPENING = "\"'“‘([{*#"

# Stands in for the sentencizer where spaCy is not installed. A sentence ends at white space after an end and what
# closes it; not after an abbreviation, whose stop spaCy's tokenizer keeps in the word. An ellipsis needs no space.
_PLAIN_MARKS = Marks(".!?…։؟۔।॥｡。！？")
_PLAIN_ENDS = _PLAIN_MARKS.one.pattern
_ABBREVIATIONS = (
    "[A-Za-z]",
    "Mr",
    "Ms",
    "Dr",
    "St",
    "Jr",
    "vs",
    "Co",
    "Mrs",
    "Inc",
    "Ltd",
    "Gen",
    "Sen",
    "Rev",
    "Prof",
)
_NO_ABBREVIATION = "".join(rf"(?<!(?<!\w){word}\.)" for word in _ABBREVIATIONS)
_PLAIN_BREAK = re.compile(
    rf"(?<={_PLAIN_ENDS}){_NO_ABBREVIATION}([\"'”’)\]}}*]*)(?:\s+|$|(?<=…)(?=\w)|(?<=[a-z]\.)(?=[A-Z]))"
)


def spans(text: str, splitter: Splitter = "spacy") -> list[Span]:
    """Start and end of each sentence, in code points.

    Args:
        text: A caption.
        splitter: "dreamlip" cuts at line breaks, the literal `</s>` and every full stop, which is lost, as DreamLIP and
            FLAIR do; "spacy" cuts at the first two, after a Chinese or Japanese end, and where spaCy's rule-based
            sentencizer ends a sentence.

    Returns:
        Sorted, disjoint spans without white space at either end, none empty.

    Raises:
        ValueError: The splitter is unknown.
    """
    return many_spans([text], splitter)[0]


def split(text: str, splitter: Splitter = "spacy") -> list[str]:
    """Sentences of a text; see `spans`."""
    return [text[start:end] for start, end in spans(text, splitter)]


def many_spans(texts: Sequence[str], splitter: Splitter) -> list[list[Span]]:
    """`spans` of many texts; with spaCy much faster than one by one."""
    if splitter == "dreamlip":
        return [_stripped(text, _between(text, _DREAMLIP_BREAK)) for text in texts]
    if splitter != "spacy":
        raise ValueError(f"splitter is '{splitter}', expected one of {', '.join(SPLITTERS)}")
    lines = [_stripped(text, _wide_pieces(text)) for text in texts]
    found = None
    if (sentencizer := _sentencizer()) is not None:
        try:
            found = _spacy_sentences(sentencizer, texts, lines)
        except ImportError as error:  # something that it needs is missing
            _warn_without_spacy(str(error))
    if found is None:
        found = [
            [_cured(text, _plain_pieces(text, *line)) for line in own] for text, own in zip(texts, lines, strict=True)
        ]
    return [[span for line in own for span in line] for own in found]


def _spacy_sentences(sentencizer: Sentencizer, texts: Sequence[str], lines: list[list[Span]]) -> list[list[list[Span]]]:
    """What spaCy takes for the sentences of each line of each text, cured.

    It is asked only for what lies between sure ends and has a doubtful one inside: most lines have none.
    """
    found = [
        [sentencizer.between_sure_ends(text, *line) for line in own] for text, own in zip(texts, lines, strict=True)
    ]
    doubtful = [
        [number, line, place]
        for number, own in enumerate(found)
        for line, parts in enumerate(own)
        for place in sentencizer.doubtful(texts[number], parts)
    ]
    parts = [(texts[number], *found[number][line][place]) for number, line, place in doubtful]
    endless = [has_endless_word(*part) for part in parts]
    answers = iter(
        sentencizer.sentences([part for part, is_endless in zip(parts, endless, strict=True) if not is_endless])
    )
    pieces = [
        _plain_pieces(*part) if is_endless else next(answers) for part, is_endless in zip(parts, endless, strict=True)
    ]
    # From the last to the first, so that places stay what they were.
    for (number, line, place), own in zip(reversed(doubtful), reversed(pieces), strict=True):
        found[number][line][place : place + 1] = own
    for number, line in {(number, line) for number, line, _ in doubtful}:
        found[number][line] = _cured(texts[number], found[number][line])
    return found


def _plain_pieces(text: str, start: int, end: int) -> list[Span]:
    """What spaCy's sentencizer takes for the sentences of a line of ordinary prose, by a regular expression."""
    if not _PLAIN_MARKS.inside(text, start, end):
        return [(start, end)]
    line = text[start:end]
    ends = [start + match.end(1) for match in _PLAIN_BREAK.finditer(line)]
    return list(zip([start, *ends], [*ends, end], strict=True))


def asked_of_spacy() -> int:
    """Characters that spaCy has been asked about in this process; all others were sure without it."""
    return sentencizer.asked if (sentencizer := _sentencizer()) else 0


def versions() -> dict[str, str]:
    """Name and version of each splitter, for the metadata of files."""
    return {"spacy": f"blank-en sentencizer {metadata.version('spacy')}, rules 1", "dreamlip": "rules 1"}


@functools.cache
def _sentencizer() -> Sentencizer | None:
    """None, and a warning, without spaCy."""
    try:
        return Sentencizer()
    except ImportError as error:
        _warn_without_spacy(str(error))
        return None


@functools.cache
def _warn_without_spacy(reason: str) -> None:
    """Warns once."""
    logger.warning(
        "%s: sentences are found by a plain rule, which gives the same for ordinary prose and may not after rare "
        "abbreviations; `pip install spacy` for exactly what the pipeline reads", reason
    )  # fmt: skip


def _between(text: str, pattern: re.Pattern[str]) -> Iterable[Span]:
    start = 0
    for match in pattern.finditer(text):
        yield start, match.start()
        start = match.end()
    yield start, len(text)


def _wide_pieces(text: str) -> Iterable[Span]:
    """Lines of a text, also cut after ends in other scripts, which the sentencizer sees before white space only."""
    for start, end in _between(text, _HARD_BREAK):
        if not text.isascii():
            for match in _WIDE_END.finditer(text, start, end):
                yield start, match.end()
                start = match.end()
        yield start, end


def _stripped(text: str, found: Iterable[Span]) -> list[Span]:
    """Spans without white space at their ends; those that hold nothing else are dropped."""
    result = []
    for start, end in found:
        piece = text[start:end]
        start += len(piece) - len(piece.lstrip())
        end = start + len(piece.strip())
        if end > start:
            result.append((start, end))
    return result


def _cured(text: str, found: list[Span]) -> list[Span]:
    """The sentences of one line without the sentencizer's cheap mistakes.

    A quote that opens a sentence goes to it; closing marks and pieces that go on in lower case belong to the sentence
    before (where the line starts in upper case, so that case tells), as does a number after "No."; the number of a
    list's entry belongs to the sentence after it.
    """
    found = _stripped(text, found)
    result: list[Span] = []
    first_letter = next((c for c in text[found[0][0] : found[-1][1]] if c.isalpha()), "") if found else ""
    case_tells = first_letter.isupper()
    opening = None  # start of what belongs to the next sentence
    for place, (start, end) in enumerate(found):
        if opening is not None:
            start, opening = opening, None
        last = place == len(found) - 1
        kept = text[start:end].rstrip(_OPENING)
        if not last and found[place + 1][0] == end and len(kept) < end - start and kept[-1:].isspace():
            opening = start + len(kept)
            end = start + len(kept.rstrip())
        piece = text[start:end]
        short = len(piece) <= FRAGMENT
        if short and piece[0].isalnum() and not last:
            opening = start
            continue
        goes_on = short or (case_tells and piece[0].islower())
        if result and (goes_on or (piece[0].isdigit() and text.endswith("No.", 0, result[-1][1]))):
            result[-1] = (result[-1][0], end)
        else:
            result.append((start, end))
    return result
