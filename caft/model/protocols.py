"""What retrieval needs of a model, so that other libraries' models are scored by the same code."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from caft.model.card import ModelCard
from caft.network.caft import ImageFeatures, Level
from caft.network.text_pool import TextConditionedPool


class Rows(Protocol):
    """A tensor (B, ...), or what is on disk and gives rows of one."""

    @property
    def shape(self) -> torch.Size:
        """As of a tensor."""

    def __len__(self) -> int:
        """B."""

    def __getitem__(self, chosen: slice | Tensor, /) -> Tensor:
        """Rows by a range or by their numbers."""


class RetrievalNetwork(Protocol):
    """Two encoders with temperatures, such as `caft.network.caft.CAFT`; a `torch.nn.Module`."""

    @property
    def image_size(self) -> int:
        """Side of the images it takes, S."""

    @property
    def context(self) -> int:
        """Tokens of a text it takes, L, start and end included."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    @property
    def pool(self) -> TextConditionedPool | None:
        """The pooling of the part level; None without one."""

    def image_features(self, pixels: Tensor) -> ImageFeatures:
        """Features of images, uint8 (B, 3, S, S)."""

    def text_features(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Whole features of captions, ids (Q, C, L), of unit norm, (Q, D); those of their chunks (Q, C, D), or None."""

    def temperature(self, level: Level) -> tuple[Tensor, Tensor]:
        """Log scale and bias of a level."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """As of a module."""

    def state_dict(self) -> dict[str, Any]:
        """As of a module."""

    def to(self, device: torch.device | str) -> Any:
        """As of a module."""


class RetrievalModel(Protocol):
    """A network and the card that says how it reads captions, such as `caft.model.model.Model`."""

    @property
    def network(self) -> RetrievalNetwork:
        """Tensors to tensors."""

    @property
    def card(self) -> ModelCard:
        """Splitter, chunks and origin."""
