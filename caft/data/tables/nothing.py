"""Texts that say nothing: what programs write for a missing value, and characters that nobody sees."""

import html
import unicodedata

from caft.captions.words import unreadable

# In lower case: what pandas, polars, R, JavaScript, SQL dumps and spreadsheets write, or pandas reads, for a missing value,
# and what spreadsheets write for one that could not be reckoned.
WORDS = frozenset(
    "nan -nan none null nil na n/a n.a. n.a nat undefined #na #n/a -1.#ind -1.#qnan 1.#ind 1.#qnan \\n "
    "#null! #ref! #value! #div/0! #name? #num! #spill! #calc! #field! #blocked! #getting_data #error!".split()
    + ["n / a", "#n/a n/a"]
)
_AROUND = "<>()[]{}\"'`\ufeff\u200b\u200c\u200d\u2060\u00ad"  # <NA>, (null), "nan"; and marks that nobody sees
_LONGEST = max(map(len, WORDS)) + 4
# Letters and a symbol that are drawn as an empty space: Hangul's fillers and Braille's blank.
_BLANKS = "\u115f\u1160\u2800\u3164\uffa0"


def is_nothing(text: str) -> bool:
    """Whether a cell holds no value: it is empty, one of `WORDS`, nothing in it can be seen, or no word is in it.

    The last is the rule by which evaluation sets and models leave out a text: "-", "...", "<br>" say nothing.
    """
    trimmed = text.strip()
    if len(trimmed) <= _LONGEST and trimmed.strip(_AROUND).strip().lower() in WORDS:
        return True
    if trimmed[:1].isalnum() and trimmed[0] not in _BLANKS:  # nearly every text
        return False
    return is_blank(trimmed) or unreadable(trimmed) is not None


def is_blank(text: str) -> bool:
    """Whether nothing in a text can be seen: white space, controls, marks of order and of zero width, as entities too."""
    if text[:1].isalnum() and text[0] not in _BLANKS:  # nearly every text
        return False
    if "&" in text:
        text = html.unescape(html.unescape(text))
    return all(
        unicodedata.category(c) in ("Cc", "Cf") or unicodedata.category(c)[0] in "ZM" or c in _BLANKS for c in text
    )
