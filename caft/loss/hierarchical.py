"""The sum of the loss terms that a recipe asks for."""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from caft.loss.exchange import Exchange, gather_texts
from caft.loss.labels import rank_blocks
from caft.loss.part import PartLoss, counted_part_loss
from caft.loss.sigmoid import pairwise_sigmoid
from caft.loss.softmax import cross_entropy, softmax_part_loss
from caft.network.text_pool import TextConditionedPool


class Features(NamedTuple):
    """What the losses compare, for the images of one rank; None where no term compares it.

    Attributes:
        part: Segments of the part level, not normalised, (B, N, D).
        part_cls: Class token of that stage, not normalised, (B, D).
        whole: Image features of the last stage, not normalised, (B, D).
        sub_captions: Text features, not normalised, image-major, (B * K, D).
        captions: Whole-caption features, not normalised, (B, D).
    """

    part: Tensor | None
    part_cls: Tensor | None
    whole: Tensor | None
    sub_captions: Tensor | None
    captions: Tensor | None


class Temperature(NamedTuple):
    """Scale (exponentiated) and bias of one level, scalars."""

    scale: Tensor
    bias: Tensor


def hierarchical_loss(
    features: Features,
    pool: TextConditionedPool | None,
    part: Temperature | None,
    whole: Temperature | None,
    *,
    weights: dict[str, float],
    negatives: str,
    seed: int,
    step: int,
    form: str = "sigmoid",
    sub_captions: Exchange | None = None,
    captions: Exchange | None = None,
) -> dict[str, Tensor]:
    """Loss terms of this rank's images against all ranks' texts (Eqs. 8 and 9).

    DDP's mean over ranks gives the loss of the whole batch, except that the sampled negatives and their normaliser
    B + K - 1 are those of each rank's block, as in FLAIR. FLAIR's own loss is `part` and `part_cls` at one half each,
    with the temperature of the part level.

    Args:
        features: Of this rank.
        pool: Text-conditioned pooling; needed by `part`.
        part: Temperature of the part level, needed by `part` and `part_cls`.
        whole: Temperature of the whole level, needed by `whole`; may be the part level's.
        weights: Weight of `part`, `part_cls` and `whole`; a term of weight zero is not computed.
        negatives: "sampled" or "all", of the part term.
        seed: Seed of the sampled negatives.
        step: Step of the optimizer, which they depend on too.
        form: "sigmoid", or "softmax" for cross-entropy over the same pairs.
        sub_captions: Exchange of the features of that name, if it has been started.
        captions: Likewise.

    Returns:
        The terms, unweighted, by the names of `weights`, and their weighted sum as `loss`. With the part term of the
        sigmoid form also `clamped_pairs`, as in `PartLoss`.
    """
    clamped: dict[str, Tensor] = {}
    terms: dict[str, Tensor] = {}
    if weights["part"] or weights["part_cls"]:
        own = features.sub_captions
        assert own is not None and part is not None
        texts = (sub_captions or Exchange(own)).result()
        if weights["part"]:
            assert features.part is not None and pool is not None
            count = len(own) // len(features.part)
            index = None
            if negatives == "sampled":
                index = rank_blocks(len(features.part), count, _ranks()[0], seed, step).to(texts.device)
            if form == "softmax":
                terms["part"] = _softmax_part_term(features.part, texts, count, pool, part, index)
            else:
                terms["part"], clamped["clamped_pairs"] = _part_term(features.part, texts, count, pool, part, index)
        if weights["part_cls"]:
            # FLAIR's multi-positive term, on the class token of the part level; the release's third term.
            assert features.part_cls is not None
            terms["part_cls"] = _matrix_term(features.part_cls, own, texts, part, form)
    if weights["whole"]:
        assert features.whole is not None and features.captions is not None and whole is not None
        everyones = (captions or Exchange(features.captions)).result()
        terms["whole"] = _matrix_term(features.whole, features.captions, everyones, whole, form)
    terms["loss"] = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return terms | clamped


def _part_term(
    tokens: Tensor,
    texts: Tensor,
    sub_captions: int,
    pool: TextConditionedPool,
    temperature: Temperature,
    index: Tensor | None,
) -> PartLoss:
    """This rank's images conditioned on texts of all ranks, (T, D), and compared with the same texts."""
    images = len(tokens)
    return counted_part_loss(
        tokens,
        texts,
        _owners(texts, sub_captions),
        pool,
        temperature.scale,
        temperature.bias,
        index=index,
        first_image=_ranks()[1] * images,
        normaliser=images + sub_captions - 1 if index is not None else images,
        negatives="all" if index is None else "sampled",
    )


def _softmax_part_term(
    tokens: Tensor,
    texts: Tensor,
    sub_captions: int,
    pool: TextConditionedPool,
    temperature: Temperature,
    index: Tensor | None,
) -> Tensor:
    """The same pairs by cross-entropy."""
    owner, first = _owners(texts, sub_captions), _ranks()[1] * len(tokens)
    return softmax_part_loss(tokens, texts, owner, pool, temperature.scale, index=index, first_image=first)


def _owners(texts: Tensor, count: int) -> Tensor:
    """Image of each text, (T,), of which each image has equally many."""
    return torch.arange(len(texts), device=texts.device) // count


def _matrix_term(images: Tensor, own_texts: Tensor, texts: Tensor, temperature: Temperature, form: str) -> Tensor:
    """One feature an image, (B, D), against all ranks' texts, (T, D), of which each image has equally many.

    The sigmoid form is a sum over pairs, divided by this rank's texts. The softmax form is the mean of both directions,
    each image among texts and each text of this rank, (B * K, D), among images, as CLIP's.
    """
    count = len(own_texts) // len(images)
    _, rank = _ranks()
    owner = _owners(texts, count)
    rows = torch.arange(rank * len(images), (rank + 1) * len(images), device=texts.device)
    positive = rows[:, None] == owner[None]  # (B, T)
    logits = temperature.scale * cosine_matrix(images, texts)
    if form == "softmax":
        all_images = gather_texts(images)
        back = temperature.scale * cosine_matrix(own_texts, all_images)  # (B * K, images of all ranks)
        own = rows.repeat_interleave(count)[:, None] == torch.arange(len(all_images), device=texts.device)[None]
        return (cross_entropy(logits, positive) / len(images) + cross_entropy(back, own) / len(own_texts)) / 2
    labels = torch.where(positive, 1.0, -1.0)
    return pairwise_sigmoid(logits + temperature.bias, labels) / len(own_texts)


def cosine_matrix(left: Tensor, right: Tensor) -> Tensor:
    """Cosines of all pairs in float32 or wider: (B, D) and (T, D) to (B, T)."""
    wide = torch.promote_types(left.dtype, torch.float32)
    with torch.autocast(left.device.type, enabled=False):
        return F.normalize(left.to(wide), dim=-1) @ F.normalize(right.to(wide), dim=-1).T


def _ranks() -> tuple[int, int]:
    """Number of ranks, and this one."""
    return (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
