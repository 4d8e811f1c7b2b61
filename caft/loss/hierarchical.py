"""The hierarchical loss: the weighted sum of the terms that a recipe asks for.

A term is an object with its weight and temperature: `part` (Eq. 8), `whole` (Eq. 9), `part_cls` (the authors' third).
All are called with the same features, whose exchange between the ranks has been started before (`caft.loss.exchange`).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from caft.loss.exchange import Exchange


class Features(NamedTuple):
    """What the terms compare, not normalised; None where no term compares it.

    Attributes:
        part: Segments of the part level of this rank's images, (B, N, D).
        part_cls: Class token of that stage, B on each rank.
        whole: Image features of the last stage, B on each rank.
        sub_captions: Text features, image-major, B * K on each rank.
        captions: Whole-caption features, B on each rank.
    """

    part: Tensor | None = None
    part_cls: Exchange | None = None
    whole: Exchange | None = None
    sub_captions: Exchange | None = None
    captions: Exchange | None = None


class Temperature(NamedTuple):
    """Scale (exponentiated) and bias of one level, scalars."""

    scale: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Term(ABC):
    """A term of the loss: this rank's images against the texts of all ranks.

    DDP's mean over ranks gives the term of the whole batch.

    Attributes:
        name: Name in the logs.
        weight: Weight in the sum.
        temperature: Scale and bias of the term's level, which terms may share.
        form: "sigmoid" for independent pairs, or "softmax" for cross-entropy over the same pairs, without a bias.
    """

    name: ClassVar[str]
    weight: float
    temperature: Temperature
    form: Literal["sigmoid", "softmax"]

    @abstractmethod
    def __call__(self, features: Features) -> dict[str, Tensor]:
        """Gives the term, unweighted, by its name, and what else it logs; scalars."""


def hierarchical_loss(terms: Sequence[Term], features: Features) -> dict[str, Tensor]:
    """Gives all terms, unweighted, by their names, what else they log, and their weighted sum as `loss`; scalars.

    FLAIR's own loss is `part` and `part_cls` at one half each, with one temperature.
    """
    found = {name: value for term in terms for name, value in term(features).items()}
    found["loss"] = torch.stack([term.weight * found[term.name] for term in terms]).sum()
    return found
