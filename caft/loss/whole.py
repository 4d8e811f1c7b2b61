"""The losses between one feature of an image and texts: the whole level (Eq. 9), and the authors' third term."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from caft.loss.exchange import Exchange
from caft.loss.hierarchical import Features, Temperature, Term
from caft.loss.labels import owners, positive_pairs
from caft.loss.sigmoid import pairwise_sigmoid
from caft.loss.softmax import cross_entropy


@dataclass(frozen=True)
class WholeTerm(Term):
    """L_whole = 1 / B sum_i sum_j log(1 + exp(-y_ij (s_w <v_i, T_j> + b_w))), Eq. 9."""

    name = "whole"

    def __call__(self, features: Features) -> dict[str, Tensor]:  # noqa: D102
        assert features.whole is not None and features.captions is not None
        return {self.name: matrix_loss(features.whole, features.captions, self.temperature, self.form)}


@dataclass(frozen=True)
class PartClsTerm(Term):
    """1 / (B K) sum_i sum_(j,k) log(1 + exp(-y_ij (s_p <c_i, t_jk> + b_p))), with the class token c_i of the part level.

    The third term of the authors' code, FLAIR's multi-positive loss. The paper has no equation for it.
    """

    name = "part_cls"

    def __call__(self, features: Features) -> dict[str, Tensor]:  # noqa: D102
        assert features.part_cls is not None and features.sub_captions is not None
        return {self.name: matrix_loss(features.part_cls, features.sub_captions, self.temperature, self.form)}


def matrix_loss(images: Exchange, texts: Exchange, temperature: Temperature, form: str) -> Tensor:
    """Compares one feature per image with all texts, of which each image has equally many.

    The sigmoid form is a sum over pairs, divided by this rank's texts. The softmax form is the mean of both directions,
    as CLIP's: each image of this rank among all texts, and each text of this rank among all images.

    Args:
        images: B on each rank; exchanged for the softmax form.
        texts: B * K on each rank, image-major, exchanged.
        temperature: Scale and bias.
        form: "sigmoid" or "softmax".

    Returns:
        A scalar, float32 or wider.
    """
    count, first = len(texts.own) // len(images.own), texts.rank * len(images.own)
    owner = owners(texts.all, count)
    positive = positive_pairs(owner, len(images.own), first)  # (B, R B K)
    logits = temperature.scale * cosine_matrix(images.own, texts.all)
    if form == "sigmoid":
        labels = torch.where(positive, 1.0, -1.0)
        return pairwise_sigmoid(logits + temperature.bias, labels) / len(texts.own)
    back = temperature.scale * cosine_matrix(texts.own, images.all)  # (B K, R B)
    own = owner[first * count :][: len(texts.own), None] == torch.arange(len(images.all), device=owner.device)
    return (cross_entropy(logits, positive) / len(images.own) + cross_entropy(back, own) / len(texts.own)) / 2


def cosine_matrix(left: Tensor, right: Tensor) -> Tensor:
    """Cosines of all pairs in float32 or wider: (B, D) and (T, D) to (B, T)."""
    wide = torch.promote_types(left.dtype, torch.float32)
    with torch.autocast(left.device.type, enabled=False):
        return F.normalize(left.to(wide), dim=-1) @ F.normalize(right.to(wide), dim=-1).T
