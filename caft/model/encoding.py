"""Pictures and texts of any kind through a model: the features of `EncodedImages` and `EncodedCaptions`.

There is one way in, for the evaluation's sets and for a user's pictures. A model whose weights are on a GPU works
there; what comes back is on the CPU, so that a large collection fits.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from caft.captions.chunks import caption_chunks
from caft.captions.sentences import split
from caft.captions.tokenizer import encode, pad, tokenize
from caft.errors import DataError
from caft.progress import track
from caft.transforms import center_crop, open_image, squash

if TYPE_CHECKING:  # the model's own methods call these functions
    from caft.network.caft import CAFT, ImageFeatures

logger = logging.getLogger(__name__)

# A path, an encoded file, a Pillow image, or a tensor (3, H, W): uint8, or floats in [0, 1].
Picture = Path | str | bytes | Image.Image | Tensor


@dataclass(frozen=True)
class EncodedImages:
    """Images as the scores see them.

    Attributes:
        whole: Of unit norm, (B, D).
        part: Part-level segments, not normalised, (B, N, D); None for a model without a part level.
    """

    whole: Tensor
    part: Tensor | None


@dataclass(frozen=True)
class EncodedCaptions:
    """Long captions as the scores see them.

    Attributes:
        whole: Of unit norm, (Q, D).
        parts: Of the chunks, not normalised, (Q, C, D); None for a model without a part level.
        cut_chunks: Chunks that were longer than the text encoder's context and lost their end.
        cut_tokens: Tokens lost that way.
        chunks: All chunks, those that a short caption has twice counted twice, as in the two fields above.
        tokens: Of the captions, without start and end; what is there twice counts once.
        seen_tokens: Those of them that the text encoder read.
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
        lost: For each chunk that is longer than a row, the tokens that it loses.
        tokens: Of the captions, without start and end; a chunk that is there twice counts once.
        seen: Those of them that are in the rows.
    """

    ids: Tensor
    lost: list[int]
    tokens: int
    seen: int


# ---------------------------------------------------------------------- pictures


def open_picture(picture: Picture) -> Image.Image:
    """An RGB image, as it is meant to be seen; see `open_image` for what that is.

    Raises:
        DataError: It cannot be decoded, or has no pixels.
        ValueError: A tensor of another shape or other values.
        TypeError: No kind of picture.
    """
    if isinstance(picture, Tensor):
        picture = _from_tensor(picture)
    elif not isinstance(picture, Path | str | bytes | Image.Image):
        raise TypeError(f"a picture is a path, bytes, a Pillow image or a tensor, found {type(picture).__name__}")
    image = open_image(picture)
    if not min(image.size):
        raise DataError(f"the picture is {image.width} x {image.height} pixels; give one that has some")
    return image


def _from_tensor(tensor: Tensor) -> Image.Image:
    if tensor.dim() != 3 or len(tensor) != 3:
        raise ValueError(
            f"expected a picture as a tensor (3, H, W), or several as (B, 3, H, W); found shape {_shape(tensor)}"
        )
    if tensor.is_floating_point():
        if tensor.numel() and not (tensor.min() >= 0 and tensor.max() <= 1):
            raise ValueError(
                "a picture of floats must lie in [0, 1], without normalisation, which the model does itself; "
                f"found {float(tensor.min()):g} to {float(tensor.max()):g}"
            )
        tensor = (tensor.float() * 255).round().to(torch.uint8)
    elif tensor.dtype != torch.uint8:
        raise ValueError(f"expected a picture as uint8, or as floats in [0, 1]; found {tensor.dtype}")
    if not tensor.numel():
        raise DataError(f"the picture is {tensor.shape[2]} x {tensor.shape[1]} pixels; give one that has some")
    return Image.fromarray(tensor.permute(1, 2, 0).contiguous().cpu().numpy())


def several(images: Picture | Sequence[Picture]) -> list[Picture]:
    """The pictures of one or many; a tensor (B, 3, H, W) is many."""
    if isinstance(images, Tensor):
        return list(images) if images.dim() == 4 else [images]
    return [images] if isinstance(images, Path | str | bytes | Image.Image) else list(images)


def encode_images(model: "CAFT", images: Sequence[Picture], batch: int = 64) -> EncodedImages:
    """Encodes images for retrieval: short side resized, centre cropped, as the compared methods do.

    Args:
        model: The model.
        images: Any number but none.
        batch: Images at once.

    Raises:
        DataError: There is no image, or one cannot be decoded.
    """
    if not images:
        raise DataError("no pictures were given; give at least one")
    _require_float32(model)
    whole, part = [], []
    size, device = model.config.image_size, model.device
    for first in track(range(0, len(images), batch), "batches of images"):
        pixels = torch.stack([center_crop(open_picture(image), size) for image in images[first : first + batch]])
        features = model.image_features(pixels.to(device))
        whole.append(features.whole.cpu())
        if features.part is not None:
            part.append(features.part.float().cpu())
    return EncodedImages(torch.cat(whole), torch.cat(part) if part else None)


def encode_pictures(model: "CAFT", pictures: Iterable[Image.Image], batch: int = 64) -> "Iterator[ImageFeatures]":
    """Encodes images for maps and boxes: squashed to the model's size, so that every pixel is seen.

    Args:
        model: The model.
        pictures: RGB, opened one batch at a time.
        batch: Images at once.

    Yields:
        Features of one image after the other, B = 1.
    """
    _require_float32(model)
    left = iter(pictures)
    while group := list(islice(left, batch)):
        pixels = torch.stack([squash(picture, model.config.image_size) for picture in group])
        yield from model.image_features(pixels.to(model.device)).split()


# ---------------------------------------------------------------------- texts


def sentences(model: "CAFT", text: str) -> list[str]:
    """Sentences of a text, as the model's card says.

    Raises:
        DataError: There is none.
    """
    found = split(text, _reading(model)["splitter"])
    if not found:
        raise DataError(_no_sentence(text))
    return found


def encode_captions(model: "CAFT", captions: Sequence[str], batch: int = 64) -> EncodedCaptions:
    """Encodes long captions, each split into sentences and balanced chunks as the model's card says.

    Args:
        model: The model; `card` gives splitter, chunks and balanced_rule.
        captions: Texts of at least one sentence.
        batch: Captions at once.

    Returns:
        Features on the CPU.

    Raises:
        DataError: There is no caption, or one has no sentence.
    """
    if not captions:
        raise DataError("no captions were given; give at least one")
    _require_float32(model)
    card, context = _reading(model), model.config.text.context
    whole, parts = [], []
    lost: list[int] = []
    tokens = seen = 0
    for first in track(range(0, len(captions), batch), "batches of captions"):
        rows = token_rows(card, captions[first : first + batch], context, first)
        lost += rows.lost
        tokens, seen = tokens + rows.tokens, seen + rows.seen
        one, many = model.text_features(rows.ids.to(model.device))
        whole.append(one.cpu())
        if many is not None:
            parts.append(many.float().cpu())
    chunks = len(captions) * card["chunks"]
    if lost:
        logger.warning(
            "%d of %d chunks are longer than %d tokens and were cut, %d tokens lost",
            len(lost), chunks, context, sum(lost),
        )  # fmt: skip
    return EncodedCaptions(
        torch.cat(whole), torch.cat(parts) if parts else None, len(lost), sum(lost), chunks, tokens, seen
    )


def token_rows(card: Mapping[str, Any], captions: Sequence[str], context: int, first: int = 0) -> TokenRows:
    """Token rows of the balanced chunks of long captions.

    Args:
        card: Gives splitter, chunks and balanced_rule.
        captions: Texts of at least one sentence.
        context: Length of a row, L.
        first: Number of the first caption, for messages.

    Raises:
        DataError: A caption has no sentence.
    """
    rows: list[Tensor] = []
    lost: list[int] = []
    room = context - 2  # start and end take two
    tokens = seen = 0
    for number, caption in enumerate(captions, start=first):
        try:
            chunks = caption_chunks(caption, card["splitter"], card["chunks"], card["balanced_rule"])
        except ValueError:
            raise DataError(f"caption {number}: {_no_sentence(caption)}") from None
        ids = [encode(chunk) for chunk in chunks]
        lost += [len(chunk) - room for chunk in ids if len(chunk) > room]
        lengths = [len(chunk) for chunk in dict(zip(chunks, ids, strict=True)).values()]
        tokens += sum(lengths)
        seen += sum(min(length, room) for length in lengths)
        rows.append(pad(ids, context))
    return TokenRows(torch.stack(rows), lost, tokens, seen)


def encode_texts(model: "CAFT", texts: Sequence[str], batch: int = 64) -> Tensor:
    """Encodes short texts as single sub-captions, without a template.

    Returns:
        Features on the model's device, not normalised, (T, D).
    """
    context, device = model.config.text.context, model.device
    features = [
        model.sub_caption_features(tokenize(list(texts[first : first + batch]), context).to(device)).float()
        for first in range(0, len(texts), batch)
    ]
    return torch.cat(features)


# ---------------------------------------------------------------------- what a model must bring


def _require_float32(model: "CAFT") -> None:
    if (found := next(model.parameters()).dtype) != torch.float32:
        raise ValueError(
            f"the weights are {found}; superpixels and scores need float32. Call model.float(), and for speed run "
            "under torch.autocast"
        )


def _reading(model: "CAFT") -> dict[str, Any]:
    """The card, which says how captions are read."""
    if missing := [key for key in ("splitter", "chunks", "balanced_rule") if key not in model.card]:
        raise DataError(
            f"the model's card does not say how captions are read: {', '.join(missing)} missing; load the model with "
            "caft.load, or set model.card"
        )
    return model.card


def _no_sentence(text: str) -> str:
    shown = text if len(text) <= 40 else text[:37] + "..."
    return f"the text {shown!r} has no sentence; give words to look for"


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
