"""Models of the library open_clip as baselines: two encoders without a part level, compared by the whole score alone.

open_clip is no dependency of this project: it needs torchvision. Where it is installed, its models are scored here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caft.errors import CheckpointError
from caft.model.card import ModelCard
from caft.network.caft import ImageFeatures, Level
from caft.weights.fit import fitted
from caft.weights.misfits import Problem, refusal

PREFIX = "open_clip:"
_CLIP_VOCABULARY = 49408
# OpenAI's image statistics, which open_clip's models use unless they say otherwise.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class OpenClipNetwork(nn.Module):
    """A model of open_clip as a `caft.model.protocols.RetrievalNetwork`.

    Args:
        inner: The library's model: `encode_image`, `encode_text`, `visual.image_size`, `context_length`, `vocab_size`,
            `logit_scale`.

    Raises:
        CheckpointError: It reads texts with another tokenizer than CLIP's.
    """

    pool = None

    def __init__(self, inner: Any) -> None:
        super().__init__()
        text = inner if hasattr(inner, "context_length") else getattr(inner, "text", inner)
        vocabulary = getattr(text, "vocab_size", None)
        if vocabulary != _CLIP_VOCABULARY:
            raise CheckpointError(
                f"open_clip: the model has a vocabulary of {vocabulary} tokens; only models with CLIP's tokenizer "
                f"({_CLIP_VOCABULARY}) are scored here"
            )
        size = inner.visual.image_size
        self.inner = inner
        self.image_size: int = size[0] if isinstance(size, tuple | list) else size
        self.context: int = getattr(text, "context_length", 77)
        self.mean = getattr(inner.visual, "image_mean", None) or MEAN
        self.std = getattr(inner.visual, "image_std", None) or STD

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.inner.parameters()).device

    @torch.no_grad()
    def image_features(self, pixels: Tensor) -> ImageFeatures:
        """Features of images, uint8 (B, 3, S, S) of the model's size."""
        mean = torch.tensor(self.mean, device=pixels.device)[:, None, None]
        std = torch.tensor(self.std, device=pixels.device)[:, None, None]
        found = self.inner.encode_image((pixels.float() / 255 - mean) / std)
        nothing = torch.zeros(len(pixels), 0, 0, dtype=torch.int64)
        return ImageFeatures(F.normalize(found.float(), dim=-1), None, nothing, [])

    @torch.no_grad()
    def text_features(self, tokens: Tensor) -> tuple[Tensor, None]:
        """Features of captions, each one text: ids (Q, 1, L) to (Q, D) of unit norm."""
        return F.normalize(self.inner.encode_text(tokens.squeeze(1)).float(), dim=-1), None

    def temperature(self, level: Level) -> tuple[Tensor, Tensor]:
        """Log scale and bias of the only level."""
        bias: Tensor | None = getattr(self.inner, "logit_bias", None)
        return self.inner.logit_scale, torch.zeros((), device=self.device) if bias is None else bias


@dataclass(frozen=True)
class OpenClipBaseline:
    """A model of open_clip as a `caft.model.protocols.RetrievalModel`: a caption is one text."""

    network: OpenClipNetwork
    card: ModelCard = ModelCard(splitter="dreamlip", chunks=1, balanced_rule="paper")


def load_open_clip(setting: str) -> OpenClipBaseline:
    """Loads `open_clip:<architecture>/<path or tag>`.

    Args:
        setting: With a path, the library reads that file; with one of its tags, it may fetch the weights.

    Raises:
        CheckpointError: The setting is incomplete, the library is not installed or does not import, or
            refuses; or a weight is not finite.
    """
    architecture, _, pretrained = setting.removeprefix(PREFIX).partition("/")
    if not architecture or not pretrained:
        raise CheckpointError(
            f"weights = {setting}: expected open_clip:<architecture>/<path or tag>, such as "
            "open_clip:ViT-B-16/laion2b_s34b_b88k"
        )
    try:
        import open_clip  # type: ignore[import-not-found]
    except (ImportError, RuntimeError) as error:  # torchvision beside another torch raises RuntimeError
        raise CheckpointError(
            f"weights = {setting}: open_clip cannot be imported ({error}); it is optional: install open_clip_torch "
            "with a torchvision that fits this torch"
        ) from None
    if pretrained.endswith((".pt", ".bin", ".safetensors")) and not Path(pretrained).expanduser().is_file():
        raise CheckpointError(f"weights = {setting}: {pretrained} not found; give the path of a file of weights")
    try:
        inner = open_clip.create_model(architecture, pretrained=str(Path(pretrained).expanduser()), precision="fp32")
    except Exception as error:  # the library, torch and its downloads raise errors of many kinds
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(f"weights = {setting}: open_clip does not load it ({reason})") from error
    state = inner.state_dict()
    found = [fitted(name, tensor, tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()]
    if problems := [problem for problem in found if isinstance(problem, Problem)]:
        raise refusal(f"weights = {setting}", problems, state, None)
    return OpenClipBaseline(OpenClipNetwork(inner).eval())
