"""The strings of a caption's chunks, which the text encoder reads as sub-captions."""

from typing import Literal

from caft.captions.chunking import balanced_chunks
from caft.captions.sentences import Splitter, spans

# What stands between two sentences of a chunk whose text is not one slice of a caption.
JOINERS: dict[Splitter, str] = {"spacy": " ", "dreamlip": ". "}


def chunk_text(caption: str, sentences: list[tuple[int, int]], splitter: Splitter) -> str:
    """The string of a chunk: its sentences, joined by ". " (dreamlip, as DreamLIP does) or by a space (spacy).

    Sentences that follow each other in a caption by white space read as in the caption, since the tokenizer collapses
    white space.
    """
    return JOINERS[splitter].join(caption[start:end] for start, end in sentences)


def caption_chunks(
    caption: str, splitter: Splitter, chunks: int = 4, rule: Literal["paper", "release"] = "paper"
) -> list[str]:
    """Strings of the balanced chunks of a long caption.

    Raises:
        ValueError: The caption has no sentence.
    """
    found = spans(caption, splitter)
    groups = balanced_chunks(len(found), chunks, rule)
    return [chunk_text(caption, [found[i] for i in group], splitter) for group in groups]
