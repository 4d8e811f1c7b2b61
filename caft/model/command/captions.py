"""The command `caft chunk`."""

import argparse
from pathlib import Path

from caft.captions.chunking import caption_chunks
from caft.captions.tokenizer import CONTEXT, encode
from caft.captions.words import require_words
from caft.model.card import ModelCard
from caft.model.command.common import say
from caft.model.interrupts import importing

# How a caption is read when no model is named.
_PLAIN_READING = ModelCard(splitter="dreamlip", chunks=4, balanced_rule="paper")


def chunk(arguments: argparse.Namespace) -> None:
    """Prints the sub-captions of a caption, with their tokens."""
    require_words(arguments.text)
    card = _card(Path(arguments.model)) if arguments.model else _PLAIN_READING
    chunks = caption_chunks(arguments.text, arguments.splitter or card.splitter, card.chunks, card.balanced_rule)
    for number, text in enumerate(chunks, start=1):
        tokens = len(encode(text)) + 2
        cut = f", cut after {CONTEXT}" if tokens > CONTEXT else ""
        say(f"{number}  {text}  [{tokens} tokens{cut}]")


def _card(path: Path) -> ModelCard:
    with importing():
        from caft.weights.files import read_card  # brings torch
    return read_card(path)
