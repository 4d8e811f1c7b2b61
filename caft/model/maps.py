"""Maps of where texts look in a picture, and its segments: what a network with a part level gives beyond scores."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from caft.errors import DataError
from caft.model.encoding import encode_squashed, encode_sub_captions
from caft.model.protocols import RetrievalModel
from caft.network.caft import CAFT, ImageFeatures
from caft.params.evaluation import Membership

# Why a model has no maps and no scores of boxes.
NO_PART_LEVEL = "the model has no part level, so no text can ask its image"


def part_network(model: RetrievalModel) -> CAFT | None:
    """The network of a model, if it has a part level."""
    return model.network if isinstance(model.network, CAFT) and model.network.has_part else None


def ground(
    network: CAFT,
    image: Image.Image,
    texts: Sequence[str],
    membership: Membership = "hard",
    size: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """Where texts look in an image, each as a single sub-caption: (T, height, width), of the image unless `size` is given.

    Raises:
        DataError: The network has no part level.
    """
    if not network.has_part:
        raise DataError(f"{NO_PART_LEVEL}; take a model with grounding")
    features = next(encode_squashed(network, [image]))
    return attention_maps(network, features, encode_sub_captions(network, texts), size or image.size[::-1], membership)


def attention_maps(
    network: CAFT,
    image: ImageFeatures,
    texts: Tensor,
    size: tuple[int, int],
    membership: Membership = "hard",
    stage: int | None = None,
) -> NDArray[np.float32]:
    """Returns where texts look in an image, upsampled bilinearly.

    Args:
        network: The network.
        image: Features of one image, B = 1; `part` holds the segments of `stage`.
        texts: Sub-caption features, (Q, D).
        size: Height and width of the maps.
        membership: As in `CAFT.segment_weights`.
        stage: As in `CAFT.segment_weights`; None is the part level's.

    Returns:
        Attention of each pixel's segments: mean over the heads, without the empty slot, (Q, height, width).

    Raises:
        DataError: The network has no part level.
    """
    return _enlarged(_on_pixels(network, image, texts, membership, stage), size)


def one_by_one(
    network: CAFT, image: Image.Image, texts: Sequence[str], size: tuple[int, int]
) -> Iterator[NDArray[np.float32]]:
    """The maps of `ground`, one text at a time (height, width): those of a large photograph would fill the memory.

    Raises:
        DataError: The network has no part level.
    """
    features = next(encode_squashed(network, [image]))
    for values in _on_pixels(network, features, encode_sub_captions(network, texts))[0]:
        yield _enlarged(values[None, None], size)[0]


def _on_pixels(
    network: CAFT, image: ImageFeatures, texts: Tensor, membership: Membership = "hard", stage: int | None = None
) -> Tensor:
    """Attention on the network's own pixels or patches, (1, Q, S, S)."""
    if image.part is None:
        raise DataError(NO_PART_LEVEL)
    attention = network.attention(image.part, texts[None])  # (1, Q, N)
    return network.segment_to_pixels(attention, image, membership, stage).float()


def _enlarged(values: Tensor, size: tuple[int, int]) -> NDArray[np.float32]:
    maps = F.interpolate(values, size=size, mode="bilinear", align_corners=False)[0]
    return maps.cpu().numpy()


def label_maps(network: CAFT, image: Image.Image) -> list[NDArray[np.int64]]:
    """Superpixels of an image and their groups, fine to coarse, at the network's size, each (S, S).

    A flat tower has its grid of patches alone.
    """
    features = next(encode_squashed(network, [image]))
    return [labels[0].cpu().numpy() for labels in network.stage_labels(features)]
