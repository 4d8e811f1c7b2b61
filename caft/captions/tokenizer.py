"""CLIP's byte-pair encoding, with open_clip's cleaning before it."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import ftfy
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

START, END = 49406, 49407
CONTEXT = 77


def clean(text: str) -> str:
    """Repairs broken Unicode, resolves HTML entities twice, collapses white space, lowers case."""
    if not is_plain(text):
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def is_plain(text: str) -> bool:
    """True for printable ASCII without "&": nothing to repair and no entity to resolve.

    Of such a text every part means the same alone as in the whole, so ids of words can be joined.
    """
    return text.isascii() and text.isprintable() and "&" not in text


def encode(text: str) -> list[int]:
    """Token ids of a text without start and end, as open_clip's.

    They differ only where two Unicode tables do: for letters younger than one of them, U+0345, and a long s after an
    apostrophe.

    Args:
        text: Any text; an empty one gives an empty list.

    Returns:
        Ids in [0, 49408); the last two only where the text spells the start or the end token.

    Raises:
        ImportError: The tokenizer's package has no wheel for this platform and is not installed.
    """
    return _encoder()(clean(text))


def frame(ids: Sequence[int], context_length: int = CONTEXT) -> list[int]:
    """Start token, ids, end token; a longer text is cut and its last id becomes the end token."""
    return [START, *ids[: context_length - 2], END]


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
    import torch  # what is tokenized for a table needs none

    return torch.from_numpy(token_rows(texts, context_length))


def token_rows(texts: Sequence[Sequence[int]], context_length: int = CONTEXT) -> NDArray[np.int64]:
    """As `pad`, an array: for who runs an exported model without torch."""
    rows = np.zeros((len(texts), context_length), np.int64)
    for row, ids in zip(rows, texts, strict=True):
        framed = frame(ids, context_length)
        row[: len(framed)] = framed
    return rows


@functools.cache
def _encoder() -> Callable[[str], list[int]]:
    """The function from a cleaned text to ids; both tokenizers bring the vocabulary with them."""
    try:
        from instant_clip_tokenizer import Tokenizer
    except ImportError as missing:
        try:
            from open_clip.tokenizer import SimpleTokenizer  # type: ignore[import-not-found]
        except ImportError:
            raise ImportError(
                "no tokenizer: instant-clip-tokenizer is not installed. It has wheels for Linux x86-64, macOS and "
                "Windows on Python 3.8 to 3.12: `pip install instant-clip-tokenizer` there, elsewhere "
                "`pip install open_clip_torch`"
            ) from missing
        tokenizer = SimpleTokenizer()
        tokenizer.clean_fn = str  # cleaned already
        encode_cleaned: Callable[[str], list[int]] = tokenizer.encode
        return encode_cleaned
    fast: Callable[[str], list[int]] = Tokenizer().encode
    return fast
