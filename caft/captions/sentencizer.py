"""spaCy's rule-based sentencizer for English, and where a sentence is sure to end without asking it.

What makes an end sure is known of one version of spaCy without importing it, which takes half a second: it is imported
when it is asked, and if it is another version.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from importlib import metadata, util
from typing import Any

from caft.captions import spacy_words

Span = tuple[int, int]
# Ends that spaCy's sentencizer does not know.
_MORE_ENDS = ("…", "...")
# A piece as short as this is not a sentence: closing quotes, or the number of a list's entry.
FRAGMENT = 3
# A stop after which a sentence may be sure to begin.
_MAYBE_SURE = re.compile("[.!?] (?=[A-Z])")
_WORD = re.compile(" [A-Za-z][^ ]*")
# What is looked for among the words that spaCy's tokenizer knows.
ASKED = "[A-Za-z]+[.!?]?"
# spaCy's tokenizer takes time by the square of a word's length; prose has none as long as this.
_ENDLESS_WORD = 1000


def has_endless_word(text: str, start: int, end: int) -> bool:
    """Whether a part of a text has a word that spaCy must not be asked about."""
    return end - start >= _ENDLESS_WORD and max(map(len, text[start:end].split())) >= _ENDLESS_WORD


class Marks:
    """Characters that may end a sentence.

    Attributes:
        one: Finds one of them.
    """

    def __init__(self, marks: str) -> None:
        self._marks = marks
        self.one = re.compile(f"[{re.escape(marks)}]")

    def inside(self, text: str, start: int, end: int) -> re.Match[str] | None:
        """The first one before those at the end of a part of a text. No lookahead: of a row of stops it would take for ever."""
        return self.one.search(text, start, self.last(text, start, end))

    def last(self, text: str, start: int, end: int) -> int:
        """Where the marks at the end of a part of a text begin."""
        return start + len(text[start:end].rstrip(self._marks))


class Sentencizer:
    """spaCy's rule-based sentencizer for English, and what is known of it without asking.

    Attributes:
        asked: Characters that spaCy has been asked about so far.

    Raises:
        ImportError: spaCy is not installed.
    """

    def __init__(self) -> None:
        if util.find_spec("spacy") is None:
            raise ImportError("spaCy is not installed")
        marks, self._words = spacy_words.MARKS, spacy_words.WORDS
        if metadata.version("spacy") != spacy_words.SPACY:
            marks, self._words = "".join(self._rule.default_punct_chars), frozenset(self._language.tokenizer.rules)
        self._marks = Marks("".join(sorted({*marks, *"".join(_MORE_ENDS)})))
        self.asked = 0

    @cached_property
    def _rule(self) -> Any:
        from spacy.pipeline import Sentencizer as Rule

        return Rule

    @cached_property
    def _language(self) -> Any:
        import spacy

        language = spacy.blank("en")
        language.add_pipe("sentencizer", config={"punct_chars": [*self._rule.default_punct_chars, *_MORE_ENDS]})
        return language

    def between_sure_ends(self, text: str, start: int, end: int) -> list[Span]:
        """A line, cut at spaces where a sentence is sure to end: after a word in plain letters and its stop.

        spaCy splits at spaces before all else, so what it makes of one word does not depend on others. Its tokenizer cuts
        the stop off, unless it knows the two as one, as "Prof."; nor is it sure of a word that it splits by itself, since
        it joins what it split if the two are a word it knows: of "Thats." the end is "s.". Nor are pieces sure that are no
        sentences.
        """
        parts = []
        for match in _MAYBE_SURE.finditer(text, start, end):
            stop = match.start()
            word = text[max(start, text.rfind(" ", start, stop) + 1) : stop]
            if (
                stop + 1 - start > FRAGMENT
                and word.isascii()
                and word.isalpha()
                and word[-1].islower()
                and word not in self._words
                and text[stop - len(word) : stop + 1] not in self._words
            ):
                parts.append((start, stop + 1))
                start = stop + 2
        if parts and end - start <= FRAGMENT:
            start, _ = parts.pop()
        return [*parts, (start, end)]

    def doubtful(self, text: str, parts: list[Span]) -> list[int]:
        """Which parts of a line have an end before their own, so that there may be several sentences in them."""
        start, end = parts[0][0], parts[-1][1]
        if text.isascii():
            # Most have no other end than those that are sure, and perhaps the last.
            ends = sum(text.count(mark, start, end) for mark in ".!?")
            if ends < len(parts) or (ends == len(parts) and text[end - 1] in ".!?"):
                return []
        return [place for place, part in enumerate(parts) if self._marks.inside(text, *part)]

    def sentences(self, parts: Sequence[tuple[str, int, int]]) -> list[list[Span]]:
        """What spaCy takes for the sentences of each part, given as a text with start and end."""
        if not parts:
            return []
        windows = [self._window(*part) for part in parts]
        asked = [text[first:last] for (text, _, _), (first, last) in zip(parts, windows, strict=True)]
        self.asked += sum(map(len, asked))
        with self._language.memory_zone():  # else the vocabulary of a corpus would stay in memory
            answers = [
                [(s.start_char, s.end_char) for s in doc.sents] for doc in self._language.pipe(asked, batch_size=256)
            ]
        result = []
        for (_, start, end), (first, _), answer in zip(parts, windows, answers, strict=True):
            begins, ends = zip(*answer, strict=True)
            result.append(
                list(
                    zip(
                        [start, *(first + at for at in begins[1:])],
                        [*(first + at for at in ends[:-1]), end],
                        strict=True,
                    )
                )
            )
        return result

    def _window(self, text: str, start: int, end: int) -> Span:
        """The words that tell where the sentences of a part end: from the first with an end to one after the last."""
        marks = [match.start() for match in self._marks.one.finditer(text, start, self._marks.last(text, start, end))]
        after = _WORD.search(text, marks[-1] + 1, end)
        return max(start, text.rfind(" ", start, marks[0]) + 1), after.end() if after else end
