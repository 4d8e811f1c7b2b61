"""Texts that say nothing: what programs write for a missing value, and characters that nobody sees."""

import html
import unicodedata

# In lower case: what pandas, polars, R, SQL dumps and spreadsheets write, or pandas reads, for a missing value.
WORDS = frozenset(
    "nan -nan none null nil na n/a nat <na> #na #n/a #null! -1.#ind -1.#qnan 1.#ind 1.#qnan \\n".split() + ["#n/a n/a"]
)
_LONGEST = max(map(len, WORDS))
# Letters and a symbol that are drawn as an empty space: Hangul's fillers and Braille's blank.
_BLANKS = "\u115f\u1160\u2800\u3164\uffa0"


def is_nothing(text: str) -> bool:
    """Whether a cell holds no value: it is empty, one of `WORDS`, or nothing in it can be seen."""
    trimmed = text.strip()
    return (len(trimmed) <= _LONGEST and trimmed.lower() in WORDS) or is_blank(trimmed)


def is_blank(text: str) -> bool:
    """Whether nothing in a text can be seen: white space, controls, marks of order and of zero width, as entities too."""
    if text[:1].isalnum() and text[0] not in _BLANKS:  # nearly every text
        return False
    if "&" in text:
        text = html.unescape(html.unescape(text))
    return all(
        unicodedata.category(c) in ("Cc", "Cf") or unicodedata.category(c)[0] in "ZM" or c in _BLANKS for c in text
    )
