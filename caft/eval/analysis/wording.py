"""Attributes in the words of an expression, and expressions with one of them changed.

An attribute is a list of words that exclude each other. An expression is taken apart by these lists alone, so any set
whose expressions hold such words can be asked; the lists are those of the rendered scenes.
"""

import re
from collections.abc import Mapping, Sequence

from caft.data.scenes.captions import PLACES
from caft.data.scenes.grammar import COLOURS, PATTERNS, SHAPES, SIZES

# Each attribute with its lists of values; a value is replaced by others of its own list. Places come in two wordings,
# in the same order.
ATTRIBUTES: Mapping[str, Sequence[Sequence[str]]] = {
    "colour": [COLOURS],
    "shape": [SHAPES],
    "pattern": [PATTERNS],
    "size": [SIZES],
    "place": [[wordings[0] for wordings in PLACES], [wordings[1] for wordings in PLACES]],
}


def value_in(text: str, attribute: str) -> tuple[str, Sequence[str]] | None:
    """Returns the value of an attribute in an expression, and the list it is from; None unless there is exactly one."""
    found = [
        (value, values)
        for values in ATTRIBUTES[attribute]
        for value in values
        for _ in re.findall(rf"\b{re.escape(value)}\b", text)
    ]
    return found[0] if len(found) == 1 else None


def changed(text: str, attribute: str) -> list[str]:
    """Returns an expression with every other value of an attribute in place of its own; none if it does not name one."""
    found = value_in(text, attribute)
    if found is None:
        return []
    own, values = found
    others = (re.sub(rf"\b{re.escape(own)}\b", value, text) for value in values if value != own)
    return [re.sub(r"\ban? (?=(\w))", _article, other) for other in others]


def _article(match: re.Match[str]) -> str:
    return "an " if match[1] in "aeiou" else "a "
