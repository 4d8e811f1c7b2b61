"""Whether a text says anything that a model can read."""

import re
import unicodedata

from caft.captions.sentences import split
from caft.captions.tokenizer import clean
from caft.errors import DataError

# A tag of HTML with its attributes: what else stands between such brackets is read as words.
_TAG = re.compile(r"</?[a-z][a-z0-9]*(?:\s+[\w-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s<>\"']+))*\s*/?>", re.IGNORECASE)


def unreadable(text: str) -> str | None:
    """What is wrong with a caption, an expression or a name; None where it has a word.

    A word is a letter, a digit or a pictograph in a sentence of DreamLIP's rule: the other splitter finds a sentence
    wherever that rule does. So "...", "</s>", "&nbsp;" and "<br>" have none.
    """
    if not text.strip():
        return "is empty"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is no valid Unicode"
    pieces = split(_TAG.sub(" ", text), "dreamlip")
    if any(_is_word(character) for sentence in pieces for character in clean(sentence)):
        return None
    return f"{text.strip()[:20]!r} has no word"


def require_words(text: str) -> None:
    """Refuses a text that no sentence can be read from.

    Raises:
        DataError: It has no sentence with a word, or is no valid Unicode.
    """
    why = unreadable(text)
    if why is None:
        return
    shown = text if len(text) <= 40 else text[:37] + "..."
    if why == "is no valid Unicode":
        raise DataError(f"the text {shown!r} is no valid Unicode; read it anew with the encoding that it has")
    raise DataError(f"the text {shown!r} has no sentence; give words to look for")


def _is_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character) == "So"
