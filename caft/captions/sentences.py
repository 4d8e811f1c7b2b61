"""Sentences of a caption, as spans of code points in the unmodified text."""

import functools
import logging
import re
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import Any, Literal

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
# Ends that spaCy's sentencizer does not know.
_MORE_ENDS = ("…", "...")
# A piece as short as this is not a sentence: closing quotes, or the number of a list's entry.
_FRAGMENT = 3
# An opening quote or bracket that the sentencizer leaves at the end of the sentence before.
_OPENING = "\"'“‘([{*#"
# spaCy's tokenizer takes time by the square of a word's length; prose has none as long as this.
_ENDLESS_WORD = 1000

# Stands in for the sentencizer where spaCy is not installed. A sentence ends at white space after an end and what
# closes it; not after an abbreviation, whose stop spaCy's tokenizer keeps in the word. An ellipsis needs no space.
_PLAIN_MARKS = ".!?…։؟۔।॥｡。！？"
_PLAIN_ENDS = f"[{_PLAIN_MARKS}]"
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


def spans(text: str, splitter: Splitter = "spacy") -> list[tuple[int, int]]:
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


def many_spans(texts: Sequence[str], splitter: Splitter) -> list[list[tuple[int, int]]]:
    """`spans` of many texts; with spaCy much faster than one by one."""
    if splitter == "dreamlip":
        return [_stripped(text, _between(text, _DREAMLIP_BREAK)) for text in texts]
    if splitter != "spacy":
        raise ValueError(f"splitter is '{splitter}', expected one of {', '.join(SPLITTERS)}")
    lines = [_stripped(text, _wide_pieces(text)) for text in texts]
    sentencizer = _sentencizer()
    marks = sentencizer[1] if sentencizer else _PLAIN_MARKS
    any_mark = re.compile(f"[{re.escape(marks)}]")

    def ends_inside(text: str, start: int, end: int) -> bool:
        """Whether an end comes before those at the end. No lookahead: of a row of stops it would take for ever."""
        return any_mark.search(text, start, start + len(text[start:end].rstrip(marks))) is not None

    # Most lines end once, at their end: they are one sentence without asking.
    asked = [
        text[start:end]
        for text, found in zip(texts, lines, strict=True)
        for start, end in found
        if ends_inside(text, start, end)
    ]
    answers = iter(_asked(sentencizer[0], asked) if sentencizer else map(_plain_pieces, asked))
    result = []
    for text, found in zip(texts, lines, strict=True):
        own: list[tuple[int, int]] = []
        for start, end in found:
            if ends_inside(text, start, end):
                pieces = [(start + first, start + last) for first, last in next(answers)]
                own += _cured(text, _stripped(text, pieces))
            else:
                own.append((start, end))
        result.append(own)
    return result


def _asked(language: Any, lines: list[str]) -> list[list[tuple[int, int]]]:
    """What spaCy takes for the sentences of each line; of one with an endless word, what the plain rule does."""
    endless = [len(line) >= _ENDLESS_WORD and max(map(len, line.split())) >= _ENDLESS_WORD for line in lines]
    asked = (line for line, is_endless in zip(lines, endless, strict=True) if not is_endless)
    with language.memory_zone():  # else the vocabulary of a corpus would stay in memory
        answers = ([(s.start_char, s.end_char) for s in doc.sents] for doc in language.pipe(asked, batch_size=256))
        return [
            _plain_pieces(line) if is_endless else next(answers)
            for line, is_endless in zip(lines, endless, strict=True)
        ]


def _plain_pieces(line: str) -> list[tuple[int, int]]:
    """What spaCy's sentencizer takes for the sentences of a line of ordinary prose, by a regular expression."""
    ends = [match.end(1) for match in _PLAIN_BREAK.finditer(line)]
    return list(zip([0, *ends], [*ends, len(line)], strict=True))


def versions() -> dict[str, str]:
    """Name and version of each splitter, for the metadata of files."""
    return {"spacy": f"blank-en sentencizer {metadata.version('spacy')}, rules 1", "dreamlip": "rules 1"}


@functools.cache
def _sentencizer() -> tuple[Any, str] | None:
    """The pipeline, and the characters that its ends are made of; None, and a warning, without spaCy."""
    try:
        import spacy
        from spacy.pipeline import Sentencizer
    except ImportError:
        logger.warning(
            "spaCy is not installed: sentences are found by a plain rule, which gives the same for ordinary prose and may "
            "not after rare abbreviations; `pip install spacy` for exactly what the pipeline reads"
        )
        return None

    ends = [*Sentencizer.default_punct_chars, *_MORE_ENDS]
    language = spacy.blank("en")
    language.add_pipe("sentencizer", config={"punct_chars": ends})
    return language, "".join(sorted(set("".join(ends))))


def _between(text: str, pattern: re.Pattern[str]) -> Iterable[tuple[int, int]]:
    start = 0
    for match in pattern.finditer(text):
        yield start, match.start()
        start = match.end()
    yield start, len(text)


def _wide_pieces(text: str) -> Iterable[tuple[int, int]]:
    """Lines of a text, also cut after ends in other scripts, which the sentencizer sees before white space only."""
    for start, end in _between(text, _HARD_BREAK):
        if not text.isascii():
            for match in _WIDE_END.finditer(text, start, end):
                yield start, match.end()
                start = match.end()
        yield start, end


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


def _cured(text: str, found: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The sentences of one line without the sentencizer's cheap mistakes.

    A quote that opens a sentence goes to it; closing marks and pieces that go on in lower case belong to the sentence
    before (where the line starts in upper case, so that case tells), as does a number after "No."; the number of a
    list's entry belongs to the sentence after it.
    """
    result: list[tuple[int, int]] = []
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
        short = len(piece) <= _FRAGMENT
        if short and piece[0].isalnum() and not last:
            opening = start
            continue
        goes_on = short or (case_tells and piece[0].islower())
        if result and (goes_on or (piece[0].isdigit() and text.endswith("No.", 0, result[-1][1]))):
            result[-1] = (result[-1][0], end)
        else:
            result.append((start, end))
    return result
