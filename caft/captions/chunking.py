"""Grouping a caption's sentences into chunks (App. B.2), which the text encoder reads as sub-captions."""

from typing import Literal

import numpy as np

from caft.captions.sentences import Splitter, spans

# What stands between two sentences of a chunk whose text is not one slice of a caption.
JOINERS: dict[Splitter, str] = {"spacy": " ", "dreamlip": ". "}


def random_chunks(
    num_sentences: int,
    num_chunks: int,
    rng: np.random.Generator,
    max_sentences: int = 3,
    rule: Literal["paper", "release"] = "paper",
) -> list[list[int]]:
    """Consecutive sentences in random groups, for training.

    The sizes are drawn one after the other, each uniform over those that leave the rest possible, as the authors'
    code does; the paper says only "randomly". With fewer sentences than chunks, each is a chunk, in order, and
    random repeats follow.

    Args:
        num_sentences: Sentences of the caption, n.
        num_chunks: Chunks wanted, M.
        rng: Source of the draws.
        max_sentences: Most sentences of a chunk.
        rule: Above `max_sentences * num_chunks` sentences "paper" discards what is beyond; "release" gives the most to
            each but the last chunk, which takes all the rest.

    Returns:
        Sentence indices of each of the M chunks.

    Raises:
        ValueError: There is no sentence, or the rule is unknown.
    """
    _require(num_sentences, rule)
    if rule == "release" and num_sentences > max_sentences * num_chunks:
        return _last_takes_the_rest(num_sentences, num_chunks, max_sentences)
    if num_sentences < num_chunks:
        repeats = rng.integers(num_sentences, size=num_chunks - num_sentences)
        return [[i] for i in range(num_sentences)] + [[int(i)] for i in repeats]
    left = min(num_sentences, max_sentences * num_chunks)
    sizes = []
    for chunks_after in range(num_chunks - 1, -1, -1):
        smallest = max(1, left - max_sentences * chunks_after)
        largest = min(max_sentences, left - chunks_after)
        sizes.append(smallest if smallest == largest else int(rng.integers(smallest, largest + 1)))
        left -= sizes[-1]
    return _consecutive(sizes)


def balanced_chunks(
    num_sentences: int, num_chunks: int, rule: Literal["paper", "release"] = "paper"
) -> list[list[int]]:
    """Consecutive sentences in groups of nearly equal size, for inference.

    Each chunk gets n // M sentences and the first n % M one more. With fewer sentences than chunks they repeat in a
    cycle (s1 s2 s1 s2), as the authors' code; the paper is silent there.

    Args:
        num_sentences: Sentences of the caption, n.
        num_chunks: Chunks wanted, M.
        rule: Above 3 M sentences "paper" keeps balancing; "release" gives 3 to each but the last chunk, which takes
            all the rest.

    Returns:
        Sentence indices of each of the M chunks.

    Raises:
        ValueError: There is no sentence, or the rule is unknown.
    """
    _require(num_sentences, rule)
    if num_sentences < num_chunks:
        return [[i % num_sentences] for i in range(num_chunks)]
    if rule == "release" and num_sentences > 3 * num_chunks:
        return _last_takes_the_rest(num_sentences, num_chunks, 3)
    size, extra = divmod(num_sentences, num_chunks)
    return _consecutive([size + (chunk < extra) for chunk in range(num_chunks)])


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


def _last_takes_the_rest(num_sentences: int, num_chunks: int, size: int) -> list[list[int]]:
    return _consecutive([size] * (num_chunks - 1) + [num_sentences - size * (num_chunks - 1)])


def _require(num_sentences: int, rule: str) -> None:
    if rule not in ("paper", "release"):
        raise ValueError(f"chunks: rule is '{rule}', expected 'paper' or 'release'")
    if num_sentences < 1:
        raise ValueError("a caption without a sentence cannot be chunked")


def _consecutive(sizes: list[int]) -> list[list[int]]:
    ends = np.cumsum(sizes).tolist()
    return [list(range(end - size, end)) for size, end in zip(sizes, ends, strict=True)]
