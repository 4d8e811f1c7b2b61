"""The sum of the loss terms that a recipe asks for."""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from caft.grounding import TextConditionedPool
from caft.loss.exchange import gather_texts
from caft.loss.labels import rank_blocks
from caft.loss.part import part_loss
from caft.loss.sigmoid import pairwise_sigmoid


class Features(NamedTuple):
    """What the losses compare, for the images of one rank.

    Attributes:
        part: Segments of the part level, not normalised, (B, N, D).
        part_cls: Class token of that stage, not normalised, (B, D).
        whole: Image features of the last stage, not normalised, (B, D).
        sub_captions: Text features, not normalised, image-major, (B * K, D).
        captions: Whole-caption features, not normalised, (B, D).
    """

    part: Tensor
    part_cls: Tensor
    whole: Tensor
    sub_captions: Tensor
    captions: Tensor


class Temperature(NamedTuple):
    """Scale (exponentiated) and bias of one level, scalars."""

    scale: Tensor
    bias: Tensor


def hierarchical_loss(
    features: Features,
    pool: TextConditionedPool,
    part: Temperature,
    whole: Temperature,
    *,
    weights: dict[str, float],
    negatives: str,
    seed: int,
    step: int,
) -> dict[str, Tensor]:
    """Loss terms of this rank's images against all ranks' texts (Eqs. 8 and 9).

    DDP's mean over ranks gives the loss of the whole batch, except that the sampled negatives and their normaliser
    B + K - 1 are those of each rank's block, as in FLAIR.

    Args:
        features: Of this rank.
        pool: Text-conditioned pooling.
        part: Temperature of the part level.
        whole: Temperature of the whole level.
        weights: Weight of `part`, `part_cls` and `whole`; a term of weight zero is not computed.
        negatives: "sampled" or "all".
        seed: Seed of the sampled negatives.
        step: Step of the optimizer, which they depend on too.

    Returns:
        The terms, unweighted, by the names of `weights`, and their weighted sum as `loss`.
    """
    images = len(features.part)
    sub_captions = len(features.sub_captions) // images
    distributed = dist.is_initialized()
    world_size, rank = (dist.get_world_size(), dist.get_rank()) if distributed else (1, 0)
    first = rank * images
    device = features.part.device
    texts = gather_texts(features.sub_captions)
    owner = torch.arange(len(texts), device=device) // sub_captions
    terms: dict[str, Tensor] = {}
    if weights["part"]:
        index = None
        if negatives == "sampled":
            index = rank_blocks(images, sub_captions, world_size, seed, step).to(device)
        terms["part"] = part_loss(
            features.part,
            texts,
            owner,
            pool,
            part.scale,
            part.bias,
            index=index,
            first_image=first,
            normaliser=images + sub_captions - 1 if index is not None else images,
            negatives="all" if index is None else "sampled",
        )
    if weights["part_cls"]:
        # FLAIR's multi-positive term, on the class token of the part level; the release's third term.
        logits = part.scale * cosine_matrix(features.part_cls, texts) + part.bias
        terms["part_cls"] = pairwise_sigmoid(logits, _labels(owner, first, images)) / (images * sub_captions)
    if weights["whole"]:
        captions = gather_texts(features.captions)
        logits = whole.scale * cosine_matrix(features.whole, captions) + whole.bias
        labels = _labels(torch.arange(len(captions), device=device), first, images)
        terms["whole"] = pairwise_sigmoid(logits, labels) / images
    terms["loss"] = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return terms


def cosine_matrix(left: Tensor, right: Tensor) -> Tensor:
    """Cosines of all pairs in float32 or wider: (B, D) and (T, D) to (B, T)."""
    wide = torch.promote_types(left.dtype, torch.float32)
    with torch.autocast(left.device.type, enabled=False):
        return F.normalize(left.to(wide), dim=-1) @ F.normalize(right.to(wide), dim=-1).T


def _labels(owner: Tensor, first: int, images: int) -> Tensor:
    rows = torch.arange(first, first + images, device=owner.device)
    return torch.where(rows[:, None] == owner[None], 1.0, -1.0)
