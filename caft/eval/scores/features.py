"""Features of images that have annotations, and of every stage of the image tower; others are of `caft.model.encoding`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caft.data.sets import open_annotated
from caft.model.encoding import encode_squashed
from caft.model.maps import attention_maps
from caft.network.caft import CAFT, ImageFeatures
from caft.params.evaluation import Membership
from caft.transforms import squash

MEMBERSHIPS: tuple[Membership, Membership] = ("hard", "soft")


def encode_pictures(
    model: CAFT, paths: Sequence[Path], sizes: Sequence[tuple[int, int]], batch: int
) -> Iterator[ImageFeatures]:
    """Encodes annotated images of some sizes (height, width) for maps and boxes, one after the other, B = 1.

    Raises:
        DataError: An image is not of the size that its annotations are for.
    """
    opened = (open_annotated(path, size) for path, size in zip(paths, sizes, strict=True))
    return encode_squashed(model, opened, batch)


@dataclass(frozen=True)
class Stages:
    """An image (B = 1) with the tokens of every stage, fine to coarse.

    Tokens (1, N_s, D) are by the part level's norm and projection, whose loss acted on one stage alone.
    """

    image: ImageFeatures
    tokens: list[Tensor]

    def segments(self, model: CAFT, stage: int) -> NDArray[np.int64]:
        """Label map of a stage, in which every token goes to its best group, (S, S) or a flat tower's grid, (h, w)."""
        return model.stage_labels(self.image)[stage][0].cpu().numpy()

    @torch.no_grad()
    def maps(
        self, model: CAFT, stage: int, texts: Tensor, size: tuple[int, int], membership: Membership
    ) -> NDArray[np.float32]:
        """Attention of texts (Q, D) over a stage's tokens, upsampled bilinearly, (Q, height, width)."""
        image = replace(self.image, part=self.tokens[stage])
        return attention_maps(model, image, texts, size, membership, stage)


def encode_stages(model: CAFT, paths: Sequence[Path], sizes: Sequence[tuple[int, int]], batch: int) -> Iterator[Stages]:
    """Like `encode_pictures`, by a model with a part level."""
    side = model.config.image_size
    squashed = (squash(open_annotated(path, size), side) for path, size in zip(paths, sizes, strict=True))
    while group := list(islice(squashed, batch)):
        pixels = torch.stack(group)
        with torch.no_grad():
            labels = model.superpixel_labels(pixels.to(model.device))
            hierarchy = model.encode_hierarchy(pixels.to(model.device), labels)
            tokens = [model.project_part(stage) for stage in hierarchy.stages]
            images = model.features_of(hierarchy, labels).split()
        for number, image in enumerate(images):
            yield Stages(image, [stage[number : number + 1] for stage in tokens])
