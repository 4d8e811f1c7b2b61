"""Which pairs are positive and which negatives are drawn: pure functions of ranks and indices."""

from typing import NamedTuple

import torch
from torch import Tensor


class Pairs(NamedTuple):
    """Images and texts of the part level, and which of them are compared.

    Attributes:
        tokens: Segments of this rank's images, (B, N, D).
        texts: Texts of all ranks, not normalised, (T, D).
        positive: Whether image and text belong together, (B, T), or (B, Q) with a selection.
        selected: Texts that each image is compared with, (B, Q); None: all.
    """

    tokens: Tensor
    texts: Tensor
    positive: Tensor
    selected: Tensor | None

    @property
    def labels(self) -> Tensor:
        """+1 and -1 in the precision of the pairs, float32 or wider."""
        wide = torch.promote_types(torch.promote_types(self.tokens.dtype, self.texts.dtype), torch.float32)
        return torch.where(self.positive, 1.0, -1.0).to(wide)


def owners(texts: Tensor, sub_captions: int) -> Tensor:
    """Image of each text, (T,), counted over all ranks: texts (T, D) are image-major, K of each image."""
    return torch.arange(len(texts), device=texts.device) // sub_captions


def positive_pairs(owner: Tensor, images: int, first_image: int = 0, index: Tensor | None = None) -> Tensor:
    """Whether an image and a text that it is compared with belong together.

    Args:
        owner: Image of each text, (T,).
        images: Number of images, B.
        first_image: Number of the first of them, counted over all ranks.
        index: Texts that each image is compared with, (B, Q); None: all.

    Returns:
        Booleans, (B, T), or (B, Q) with an index.
    """
    numbers = torch.arange(first_image, first_image + images, device=owner.device)[:, None]
    return (owner[None] if index is None else owner[index]) == numbers


def sampled_index(images: int, sub_captions: int, generator: torch.Generator) -> Tensor:
    """Texts that each image of a batch is compared with: its own, and one drawn of each other image.

    FLAIR's rule: a fresh, independent draw for every ordered pair of images.

    Args:
        images: Images in the batch of one rank, B.
        sub_captions: Texts of each image, K, image-major.
        generator: Source of the draws, on the CPU.

    Returns:
        Indices into the B * K texts, ascending in each row, (B, B + K - 1); row i has its own texts in the columns
        i to i + K - 1.
    """
    draws = torch.randint(sub_captions, (images, images), generator=generator)
    rows = torch.arange(images)[:, None]
    columns = torch.arange(images + sub_captions - 1)[None]
    before, after = columns < rows, columns >= rows + sub_captions
    other = torch.where(before, columns, columns - sub_captions + 1).clamp(0, images - 1)
    drawn = other * sub_captions + draws.gather(1, other)
    own = rows * sub_captions + columns - rows
    return torch.where(before | after, drawn, own)


def rank_blocks(images: int, sub_captions: int, world_size: int, seed: int, step: int) -> Tensor:
    """Sampled texts of every rank's block: the same table on each rank, without sending it.

    As in FLAIR's ring, image i of a rank's B meets row i of every rank's own table. Each step has its own draws.

    Returns:
        Indices into the texts of all ranks in order of rank, (B, R * (B + K - 1)).
    """
    tables = []
    for rank in range(world_size):
        generator = torch.Generator().manual_seed((seed * 1_000_003 + step) * 4099 + rank)
        tables.append(sampled_index(images, sub_captions, generator) + rank * images * sub_captions)
    return torch.cat(tables, dim=1)
