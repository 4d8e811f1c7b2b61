"""Features of a benchmark's images and texts, each encoded once, in batches."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from caft.data.transforms import center_crop, open_image, squash
from caft.errors import DataError
from caft.model import CAFT, ImageFeatures
from caft.pretrained import load
from caft.progress import track
from caft.text.captions import caption_chunks
from caft.text.tokenizer import encode, pad, tokenize

logger = logging.getLogger(__name__)
# Why maps and boxes of a model are not scored.
NO_PART_LEVEL = "the model has no part level, so no text can ask its image"


@dataclass(frozen=True)
class CaptionFeatures:
    """Long captions as the scores see them.

    Attributes:
        whole: Of unit norm, (Q, D).
        parts: Of the chunks, not normalised, (Q, C, D); None for a model without a part level.
        cut_chunks: Chunks that were longer than the text encoder's context and lost their end.
        cut_tokens: Tokens lost that way.
    """

    whole: Tensor
    parts: Tensor | None
    cut_chunks: int
    cut_tokens: int


def load_model(path: Path | str = "models/caft.safetensors") -> CAFT:
    """Loads a model for evaluation, onto the GPU if there is one.

    Raises:
        CheckpointError: Its files are missing or damaged.
    """
    return load(path).to("cuda" if torch.cuda.is_available() else "cpu")


def encode_images(model: CAFT, paths: Sequence[Path], batch: int) -> tuple[Tensor, Tensor | None]:
    """Encodes images for retrieval: short side resized, centre cropped, as the compared methods do.

    Args:
        model: The model.
        paths: Image files.
        batch: Images at once.

    Returns:
        Whole features of unit norm (I, D), and part-level segments (I, N, D) or None, on the CPU.
    """
    whole, part = [], []
    size, device = model.config.image_size, model.device
    for first in track(range(0, len(paths), batch), "batches of images"):
        pixels = torch.stack([center_crop(open_image(path), size) for path in paths[first : first + batch]])
        features = model.image_features(pixels.to(device))
        whole.append(features.whole.cpu())
        if features.part is not None:
            part.append(features.part.float().cpu())
    return torch.cat(whole), torch.cat(part) if part else None


def encode_captions(model: CAFT, captions: Sequence[str], batch: int) -> CaptionFeatures:
    """Encodes long captions, each split into sentences and balanced chunks as the model's card says.

    Args:
        model: The model; `card` gives splitter, chunks and balanced_rule.
        captions: Texts of at least one sentence.
        batch: Captions at once.

    Returns:
        Features on the CPU.
    """
    card, context, device = model.card, model.config.text.context, model.device
    whole, parts = [], []
    cut_chunks = cut_tokens = 0
    for first in track(range(0, len(captions), batch), "batches of captions"):
        tokens = []
        for caption in captions[first : first + batch]:
            chunks = caption_chunks(caption, card["splitter"], card["chunks"], card["balanced_rule"])
            ids = [encode(chunk) for chunk in chunks]
            lost = [len(chunk) + 2 - context for chunk in ids]  # start and end take two places
            cut_chunks += sum(count > 0 for count in lost)
            cut_tokens += sum(count for count in lost if count > 0)
            tokens.append(pad(ids, context))
        one, many = model.text_features(torch.stack(tokens).to(device))
        whole.append(one.cpu())
        if many is not None:
            parts.append(many.float().cpu())
    if cut_chunks:
        logger.warning(
            "%d of %d chunks are longer than %d tokens and were cut, %d tokens lost",
            cut_chunks, len(captions) * card["chunks"], context, cut_tokens,
        )  # fmt: skip
    return CaptionFeatures(torch.cat(whole), torch.cat(parts) if parts else None, cut_chunks, cut_tokens)


def encode_texts(model: CAFT, texts: Sequence[str], batch: int) -> Tensor:
    """Encodes short texts as single sub-captions, without a template.

    Returns:
        Features, not normalised, (T, D).
    """
    context, device = model.config.text.context, model.device
    features = [
        model.sub_caption_features(tokenize(list(texts[first : first + batch]), context).to(device)).float()
        for first in range(0, len(texts), batch)
    ]
    return torch.cat(features)


def encode_pictures(
    model: CAFT, paths: Sequence[Path], sizes: Sequence[tuple[int, int]], batch: int
) -> Iterator[ImageFeatures]:
    """Encodes images for maps and boxes: squashed to the model's size, so that every pixel is seen.

    Args:
        model: The model.
        paths: Image files.
        sizes: Height and width of each, as its annotations have them.
        batch: Images at once.

    Yields:
        Features of one image after the other, B = 1.

    Raises:
        DataError: An image is not of the size that its annotations are for.
    """
    for first in range(0, len(paths), batch):
        pixels = []
        for path, (height, width) in zip(paths[first : first + batch], sizes[first : first + batch], strict=True):
            image = open_image(path)
            if image.size != (width, height):
                raise DataError(
                    f"{path}: is {image.size[0]} x {image.size[1]} pixels, its annotations are for {width} x {height}; "
                    "take the original image"
                )
            pixels.append(squash(image, model.config.image_size))
        yield from split(model.image_features(torch.stack(pixels).to(model.device)))


def split(features: ImageFeatures) -> list[ImageFeatures]:
    """Takes the images of a batch apart, each B = 1."""
    return [
        ImageFeatures(
            whole=features.whole[i : i + 1],
            part=None if features.part is None else features.part[i : i + 1],
            labels=features.labels[i : i + 1],
            assignments=[assignment[i : i + 1] for assignment in features.assignments],
        )
        for i in range(len(features.whole))
    ]
