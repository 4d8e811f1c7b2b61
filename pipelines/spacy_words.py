"""Writes `caft/captions/spacy_words.py`, what spaCy knows that tells sure ends of sentences without importing it.

To be run after the locked version of spaCy has changed; the test of sentences fails until then.
"""

import re
import textwrap
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from caft.captions.sentencizer import ASKED
from caft.digests import ROOT
from caft.storage import write_text

PLACE = Path("caft/captions/spacy_words.py")
_FORM = '''"""What spaCy's English knows and the sentencizer asks for; written by `python -m pipelines.spacy_words`."""

SPACY = "{version}"

# Characters that may end a sentence, as code points.
MARKS = "".join(
    chr(int(code, 16))
    for code in """
{marks}
""".split()
)

# Words of the tokenizer in plain letters, also with a stop: those that an end is asked about.
WORDS = frozenset(
    """
{words}
""".split()
)
'''


def source() -> str:
    """The module's text, by the spaCy that is installed."""
    import spacy
    from spacy.pipeline import Sentencizer as Rule

    tokenizer: Any = spacy.blank("en").tokenizer
    words = [word for word in tokenizer.rules if re.fullmatch(ASKED, word)]
    marks = (f"{ord(mark):x}" for mark in Rule.default_punct_chars)
    return _FORM.format(version=metadata.version("spacy"), marks=_lines(marks), words=_lines(words))


def _lines(words: Iterable[str]) -> str:
    return textwrap.fill(" ".join(sorted(words)), 118, break_on_hyphens=False)


if __name__ == "__main__":
    write_text(ROOT / PLACE, source())
