"""CLIP's byte-pair encoding, with open_clip's cleaning before it."""

import functools
import html
import re
from collections.abc import Sequence

import ftfy
import torch
from torch import Tensor

START, END = 49406, 49407
CONTEXT = 77
_SPACE = re.compile(r"\s+")


def clean(text: str) -> str:
    """Repairs broken Unicode, resolves HTML entities twice, collapses white space, lowers case."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return _SPACE.sub(" ", text).strip().lower()


def encode(text: str) -> list[int]:
    """Token ids of a text without start and end, identical to open_clip's.

    Args:
        text: Any text; an empty one gives an empty list.

    Returns:
        Ids in [0, 49406).

    Raises:
        ImportError: The tokenizer's package has no wheel for this platform and is not installed.
    """
    ids: list[int] = _tokenizer().encode(clean(text))
    return ids


def frame(ids: Sequence[int], context_length: int = CONTEXT) -> list[int]:
    """Start token, ids, end token; a longer text is cut and its last id becomes the end token."""
    framed = [START, *ids[: context_length - 2], END]
    return framed


def tokenize(texts: str | Sequence[str], context_length: int = CONTEXT) -> Tensor:
    """Token ids with start and end, zero padded.

    Args:
        texts: One text or several.
        context_length: Length of each row, L; longer texts are cut and end in the end token.

    Returns:
        Ids (B, L), int64.
    """
    texts = [texts] if isinstance(texts, str) else texts
    return pad([encode(text) for text in texts], context_length)


def pad(texts: Sequence[Sequence[int]], context_length: int = CONTEXT) -> Tensor:
    """Rows of `tokenize` from ids without start and end, (B, L)."""
    rows = torch.zeros(len(texts), context_length, dtype=torch.long)
    for row, ids in zip(rows, texts, strict=True):
        framed = frame(ids, context_length)
        row[: len(framed)] = torch.tensor(framed)
    return rows


@functools.cache
def _tokenizer():  # type: ignore[no-untyped-def]  # the package brings no types
    try:
        from instant_clip_tokenizer import Tokenizer
    except ImportError as error:
        raise ImportError(
            "instant-clip-tokenizer is not installed. It has wheels for Linux x86-64, macOS and Windows on "
            "Python 3.8 to 3.12: `pip install instant-clip-tokenizer` there"
        ) from error
    return Tokenizer()
