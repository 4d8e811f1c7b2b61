"""Where texts look among the tokens of every stage of the image tower, not those of the part level alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from caft.eval.scores.features import open_annotated
from caft.network.caft import CAFT
from caft.params import Membership
from caft.transforms import squash

MEMBERSHIPS: tuple[Membership, Membership] = ("hard", "soft")


@dataclass(frozen=True)
class Stages:
    """An image with the tokens of every stage, fine to coarse.

    Attributes:
        labels: Superpixel of each pixel, (S, S), or patch at each place of a flat tower's grid, (h, w).
        tokens: Of each stage by the part level's norm and projection, (N_s, D): its loss acted on one stage alone.
        assignments: Share of each token of a stage in each group of the next, (N_s, N_{s+1}).
    """

    labels: Tensor
    tokens: list[Tensor]
    assignments: list[Tensor]

    def weights(self, stage: int, membership: Membership) -> Tensor:
        """Share of each superpixel or patch in each token of a stage, (N_1, N_s); as `CAFT.segment_weights`."""
        weights = torch.eye(len(self.tokens[0]), device=self.labels.device)
        for assignment in self.assignments[:stage]:
            if membership == "hard":
                assignment = F.one_hot(assignment.argmax(1), assignment.shape[1])
            weights = weights @ assignment.float()
        return weights

    def segments(self, stage: int) -> NDArray[np.int64]:
        """Label map of a stage, in which every token goes to its best group, shaped as `labels`."""
        return self.weights(stage, "hard").argmax(1)[self.labels].cpu().numpy()

    @torch.no_grad()
    def maps(
        self, model: CAFT, stage: int, texts: Tensor, size: tuple[int, int], membership: Membership
    ) -> NDArray[np.float32]:
        """Attention of texts (Q, D) over a stage's tokens, upsampled bilinearly, (Q, height, width).

        At the part level's stage these are the maps of `caft.model.maps.attention_maps`.
        """
        attention = model.attention(self.tokens[stage][None], texts[None])[0]  # (Q, N_s)
        on_pixels = (attention @ self.weights(stage, membership).T)[:, self.labels].float()  # (Q, S, S)
        upsampled = F.interpolate(on_pixels[None], size=size, mode="bilinear", align_corners=False)[0]
        return upsampled.cpu().numpy()


def encode_stages(model: CAFT, paths: Sequence[Path], sizes: Sequence[tuple[int, int]], batch: int) -> Iterator[Stages]:
    """Encodes annotated images, squashed to the model's size.

    Args:
        model: The model; it must have a part level.
        paths: Image files.
        sizes: Height and width of each, as its annotations have them.
        batch: Images at once.

    Yields:
        One image after the other.

    Raises:
        DataError: An image is not of the size that its annotations are for.
    """
    left = zip(paths, sizes, strict=True)
    while group := list(islice(left, batch)):
        pixels = torch.stack([squash(open_annotated(*image), model.config.image_size) for image in group])
        with torch.no_grad():
            labels = model.superpixel_labels(pixels.to(model.device))
            hierarchy = model.encode_hierarchy(pixels.to(model.device), labels)
            tokens = [model.project_part(stage) for stage in hierarchy.stages]
            assignments = [logits.softmax(2) for logits in hierarchy.logits]
        for image in range(len(group)):
            yield Stages(labels[image], [t[image] for t in tokens], [a[image] for a in assignments])
