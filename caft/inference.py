"""Pictures and texts of any kind through a model: features, scores, maps, segments.

The evaluation calls these functions on its sets, and `caft.CAFT` has the methods of `caft.interface` that call them on
a user's pictures: there is one way through the model. A model whose weights are on a GPU works there; what comes back
is on the CPU, so that a large collection fits.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from caft.data.transforms import center_crop, open_image, squash
from caft.errors import DataError
from caft.params import Membership
from caft.progress import track
from caft.similarity import blend, part_scores, whole_scores, without_bias
from caft.text.captions import caption_chunks
from caft.text.sentences import split
from caft.text.tokenizer import encode, pad, tokenize

if TYPE_CHECKING:  # the model's own methods call these functions
    from caft.model import CAFT, ImageFeatures

logger = logging.getLogger(__name__)

# Why maps and boxes of a model are not there.
NO_PART_LEVEL = "the model has no part level, so no text can ask its image"

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


class Match(NamedTuple):
    """What a query found: the number of an image among those that were searched, and its score."""

    image: int
    score: float


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


# ---------------------------------------------------------------------- scores


def similarity(model: "CAFT", images: EncodedImages, captions: EncodedCaptions, part_weight: float) -> Tensor:
    """Scores of every image with every caption, CAFT++ (Eq. 10): (1 - w) whole + w part, logits without biases.

    Args:
        model: The model.
        images: B of them.
        captions: Q of them.
        part_weight: w, in [0, 1]; at 0 the part level is not computed.

    Returns:
        Scores (B, Q).

    Raises:
        DataError: A part score is asked of a model without a part level.
    """
    whole = whole_scores(model, images.whole, captions.whole)
    if part_weight == 0:
        return without_bias(model, whole, "whole")
    if images.part is None or captions.parts is None:
        raise DataError(f"the model has no part level: part_weight is {part_weight}, and must be 0")
    return blend(model, whole, part_scores(model, images.part, captions.parts), part_weight)


def best(scores: Tensor, k: int) -> list[Match]:
    """The k largest of scores (B,), best first; equal ones in their order."""
    order = scores.argsort(descending=True, stable=True)[:k].tolist()
    return [Match(image, float(scores[image])) for image in order]


# ---------------------------------------------------------------------- maps and segments


def ground(
    model: "CAFT", image: Image.Image, texts: Sequence[str], membership: Membership = "hard"
) -> NDArray[np.float32]:
    """Where texts look in an image, each as a single sub-caption: (T, height, width).

    Raises:
        DataError: The model has no part level.
    """
    if not model.has_part:
        raise DataError(f"{NO_PART_LEVEL}; take a model with grounding")
    features = next(encode_pictures(model, [image]))
    return attention_maps(model, features, encode_texts(model, texts), image.size[::-1], membership)


def attention_maps(
    model: "CAFT", image: "ImageFeatures", texts: Tensor, size: tuple[int, int], membership: Membership = "hard"
) -> NDArray[np.float32]:
    """Returns where texts look in an image, upsampled bilinearly.

    Args:
        model: The model.
        image: Features of one image, B = 1.
        texts: Sub-caption features, (Q, D).
        size: Height and width of the maps.
        membership: Of superpixels in segments, as in `CAFT.segment_weights`.

    Returns:
        Attention of each pixel's segments: mean over the heads, without the empty slot, (Q, height, width).
    """
    assert image.part is not None, "the model has no part level"
    attention = model.attention(image.part, texts[None])  # (1, Q, N)
    on_pixels = model.segment_to_pixels(attention, image, membership).float()  # (1, Q, S, S)
    maps = F.interpolate(on_pixels, size=size, mode="bilinear", align_corners=False)[0]
    return maps.cpu().numpy()


def label_maps(model: "CAFT", image: Image.Image) -> list[NDArray[np.int64]]:
    """Superpixels of an image and their groups, fine to coarse, at the model's size, each (S, S).

    A flat tower has its grid of patches alone.
    """
    features = next(encode_pictures(model, [image]))
    return [labels[0].cpu().numpy() for labels in (features.labels, *model.segments(features))]


def stretched(labels: NDArray[np.integer[Any]], height: int, width: int) -> NDArray[np.integer[Any]]:
    """A label map at another size, by the nearest pixel, (height, width)."""
    rows = np.arange(height) * labels.shape[0] // height
    columns = np.arange(width) * labels.shape[1] // width
    return labels[rows[:, None], columns[None]]


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
