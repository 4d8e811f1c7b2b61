"""Encodes pictures and texts of any kind; the evaluation's sets and a user's pictures take the same way.

Retrieval takes pictures cropped and long captions in chunks (`encode_cropped`, `encode_captions`); maps and boxes take
pictures squashed and single sub-captions (`encode_squashed`, `encode_sub_captions`). The model works where its weights
are. Features for retrieval come back on the CPU, so that a large collection fits.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from caft.captions.chunking import caption_chunks
from caft.captions.sentences import split
from caft.captions.tokenizer import encode, pad, tokenize
from caft.captions.words import require_words, unreadable
from caft.errors import DataError
from caft.model.arguments import Picture, open_picture, whole_number
from caft.model.card import ModelCard
from caft.model.protocols import RetrievalModel, RetrievalNetwork
from caft.network.caft import CAFT, ImageFeatures
from caft.progress import track
from caft.transforms import center_crop, squash

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodedImages:
    """Features of images for retrieval, on the CPU.

    Attributes:
        whole: Whole-level features of unit norm, (B, D).
        part: Part-level segments, not normalised, (B, N, D); None for a model without a part level.
    """

    whole: Tensor
    part: Tensor | None


@dataclass(frozen=True)
class EncodedCaptions:
    """Features of long captions for retrieval, on the CPU, and how much of them the text encoder read.

    Attributes:
        whole: Whole-level features of unit norm, (Q, D).
        parts: Features of the chunks, not normalised, (Q, C, D); None for a model without a part level.
        cut_chunks: Number of chunks that were longer than the text encoder's context and lost their end.
        cut_tokens: Number of tokens lost that way.
        chunks: Number of chunks; a chunk that repeats in a short caption counts each time, as in the two counts above.
        tokens: Number of tokens of the captions, without start and end; a chunk that repeats counts once.
        seen_tokens: How many of `tokens` the text encoder read.
    """

    whole: Tensor
    parts: Tensor | None
    cut_chunks: int
    cut_tokens: int
    chunks: int
    tokens: int
    seen_tokens: int


class TokenRows(NamedTuple):
    """Captions as the text encoder reads them.

    Attributes:
        ids: Rows of the chunks, (Q, C, L).
        lost: Number of tokens that each chunk longer than a row loses.
        tokens: As in `EncodedCaptions`.
        seen: How many of `tokens` are in the rows.
    """

    ids: Tensor
    lost: list[int]
    tokens: int
    seen: int


# ---------------------------------------------------------------------- pictures


def encode_cropped(network: RetrievalNetwork, pictures: Sequence[Picture], batch: int = 64) -> EncodedImages:
    """Encodes pictures for retrieval: short side resized, centre cropped, as the compared methods do.

    Raises:
        DataError: There is no picture, or one cannot be decoded.
        ArgumentError: One is none (see `caft.model.arguments.Picture`), or `batch` is no whole number from 1.
    """
    batch = whole_number(batch, "batch")
    if not pictures:
        raise DataError("no pictures were given; give at least one")
    _require_float32(network)
    whole, part = [], []
    for first in track(range(0, len(pictures), batch), "batches of images"):
        opened = map(open_picture, pictures[first : first + batch])
        pixels = torch.stack([center_crop(picture, network.image_size) for picture in opened])
        features = network.image_features(pixels.to(network.device))
        whole.append(features.whole.cpu())
        if features.part is not None:
            part.append(features.part.float().cpu())
    return EncodedImages(torch.cat(whole), torch.cat(part) if part else None)


def encode_squashed(network: CAFT, pictures: Iterable[Image.Image], batch: int = 64) -> Iterator[ImageFeatures]:
    """Encodes pictures for maps and boxes: squashed to the network's size, so that every pixel is seen.

    Args:
        network: The network.
        pictures: RGB; an iterator is read one batch at a time.
        batch: Pictures at once.

    Yields:
        Features of one picture after the other, B = 1.
    """
    _require_float32(network)
    left = iter(pictures)
    while group := list(islice(left, batch)):
        pixels = torch.stack([squash(picture, network.image_size) for picture in group])
        yield from network.image_features(pixels.to(network.device)).split()


# ---------------------------------------------------------------------- texts


def sentences(text: str, card: ModelCard) -> list[str]:
    """Sentences of a text, as a model's card says, without those that have no word, as a line "***".

    Raises:
        DataError: The text has no sentence with a word, or is no valid Unicode.
    """
    require_words(text)
    return [sentence for sentence in split(text, card.splitter) if unreadable(sentence) is None]


def encode_captions(model: RetrievalModel, captions: Sequence[str], batch: int = 64) -> EncodedCaptions:
    """Encodes long captions, each split into sentences and balanced chunks as the model's card says.

    Raises:
        DataError: There is no caption, or one has no sentence with a word.
    """
    if not captions:
        raise DataError("no captions were given; give at least one")
    network, context = model.network, model.network.context
    _require_float32(network)
    whole, parts = [], []
    lost: list[int] = []
    tokens = seen = 0
    for first in track(range(0, len(captions), batch), "batches of captions"):
        rows = token_rows(model.card, captions[first : first + batch], context, first)
        lost += rows.lost
        tokens, seen = tokens + rows.tokens, seen + rows.seen
        one, many = network.text_features(rows.ids.to(network.device))
        whole.append(one.cpu())
        if many is not None:
            parts.append(many.float().cpu())
    chunks = len(captions) * model.card.chunks
    if lost:
        logger.warning(
            "%d of %d chunks are longer than %d tokens and were cut, %d tokens lost",
            len(lost), chunks, context, sum(lost),
        )  # fmt: skip
    return EncodedCaptions(
        torch.cat(whole), torch.cat(parts) if parts else None, len(lost), sum(lost), chunks, tokens, seen
    )


def token_rows(card: ModelCard, captions: Sequence[str], context: int, first: int = 0) -> TokenRows:
    """Token rows of length L, the context, of the balanced chunks of long captions; `first` numbers them in messages.

    Raises:
        DataError: A caption has no sentence with a word.
    """
    rows: list[Tensor] = []
    lost: list[int] = []
    room = context - 2  # start and end take two
    tokens = seen = 0
    for number, caption in enumerate(captions, start=first):
        try:
            require_words(caption)
        except DataError as error:
            raise DataError(f"caption {number}: {error}") from None
        chunks = caption_chunks(caption, card.splitter, card.chunks, card.balanced_rule)
        ids = [encode(chunk) for chunk in chunks]
        lost += [len(chunk) - room for chunk in ids if len(chunk) > room]
        lengths = [len(chunk) for chunk in dict(zip(chunks, ids, strict=True)).values()]
        tokens += sum(lengths)
        seen += sum(min(length, room) for length in lengths)
        rows.append(pad(ids, context))
    return TokenRows(torch.stack(rows), lost, tokens, seen)


def encode_sub_captions(network: CAFT, texts: Sequence[str], batch: int = 64) -> Tensor:
    """Encodes short texts, each as one sub-caption, without a template.

    Returns:
        Features on the network's device, not normalised, (T, D).
    """
    tokens = tokenize(texts, network.context).split(batch)
    return torch.cat([network.sub_caption_features(rows.to(network.device)).float() for rows in tokens])


def _require_float32(network: RetrievalNetwork) -> None:
    if (found := next(network.parameters()).dtype) != torch.float32:
        raise ValueError(
            f"the weights are {found}; superpixels and scores need float32. Call network.float(), and for speed run "
            "under torch.autocast"
        )
