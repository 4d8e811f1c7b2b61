"""The losses as nested loops over pairs, for small inputs."""

import math

import torch
from torch import Tensor

from caft.grounding import TextConditionedPool


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def sampled_part_loss(
    tokens: list[Tensor],
    texts: list[Tensor],
    tables: list[Tensor],
    pool: TextConditionedPool,
    scale: float,
    bias: float,
    sub_captions: int,
) -> float:
    """FLAIR's loss of all ranks: mean over ranks of each rank's sum over blocks, one pair at a time."""
    total = 0.0
    for rank, images in enumerate(tokens):
        own = 0.0
        for block, table in enumerate(tables):
            for image in range(len(images)):
                for text in table[image].tolist():
                    query = texts[block][text]
                    pooled, _ = pool(query[None, None], images[image][None])
                    cosine = torch.nn.functional.cosine_similarity(pooled[0, 0], query, dim=0)
                    positive = block == rank and text // sub_captions == image
                    own += softplus(-(1 if positive else -1) * (scale * float(cosine) + bias))
        total += own / (len(images) + sub_captions - 1)
    return total / len(tokens)
