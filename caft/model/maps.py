"""What features say: scores of pictures with captions, maps of where a sentence looks, segments.

The evaluation calls these functions on its sets, and `caft.CAFT` has the methods of `caft.model.model` that call them on
a user's pictures. What they score is made in `caft.model.encoding`, whose functions can be imported from here as well.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from caft.errors import DataError
from caft.model.encoding import (
    EncodedCaptions,
    EncodedImages,
    Picture,
    TokenRows,
    encode_captions,
    encode_images,
    encode_pictures,
    encode_texts,
    open_picture,
    sentences,
    several,
    token_rows,
)
from caft.model.scores import blend, part_scores, whole_scores, without_bias
from caft.params import Membership

if TYPE_CHECKING:  # the model's own methods call these functions
    from caft.network.caft import CAFT, ImageFeatures

__all__ = [
    "NO_PART_LEVEL",
    "EncodedCaptions",
    "EncodedImages",
    "Match",
    "Picture",
    "TokenRows",
    "attention_maps",
    "best",
    "encode_captions",
    "encode_images",
    "encode_pictures",
    "encode_texts",
    "ground",
    "label_maps",
    "open_picture",
    "sentences",
    "several",
    "similarity",
    "stretched",
    "token_rows",
]

# Why maps and boxes of a model are not there.
NO_PART_LEVEL = "the model has no part level, so no text can ask its image"


class Match(NamedTuple):
    """What a query found: the number of an image among those that were searched, and its score."""

    image: int
    score: float


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


def stretched(labels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """A label map at another size, by the nearest pixel, (height, width)."""
    rows = np.arange(height) * labels.shape[0] // height
    columns = np.arange(width) * labels.shape[1] // width
    return labels[rows[:, None], columns[None]]
