"""The graphs that are exported: where a model is cut, and what goes in and out, by name (docs/export.md)."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caft.export import forms
from caft.network.caft import CAFT, ImageFeatures
from caft.network.vision.flat import FlatVisionEncoder


@dataclass(frozen=True)
class Graph:
    """A part of a model that is exported by itself.

    Attributes:
        name: Of its file, without ending.
        module: Tensors to a tuple of tensors.
        inputs: Examples by name; no open size is 0 or 1, which tracing would take for fixed.
        open: The dimensions of each input whose size is left open, and its letter.
        outputs: Names, in order.
        most: The largest size of a letter, where there is one.
    """

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    open: Mapping[str, Mapping[int, str]]
    outputs: tuple[str, ...]
    most: Mapping[str, int] = field(default_factory=dict)


def graphs(network: CAFT) -> list[Graph]:
    """The graphs of a network: image, text and caption; and score, if it has a part level."""
    config = network.config
    groups = range(1, len(config.tokens))
    grouping = (*(f"assignment_{number}" for number in groups), *(f"picks_{number}" for number in groups))
    parts, texts = (("segments",), ("texts",)) if network.has_part else ((), ())
    pixels = torch.arange(2 * 3 * config.image_size**2).view(2, 3, config.image_size, -1).to(torch.uint8)
    ids = torch.zeros(3, 8, dtype=torch.int64)
    ids[:, 1] = config.text.vocabulary - 1
    chunks = torch.ones(2, chunks_of(network), config.text.width)
    image, text, caption = ImageGraph(network), TextGraph(network), CaptionGraph(network)
    found = [
        Graph("image", image, {"pixels": pixels}, {"pixels": {0: "B"}}, ("whole", *parts, "labels", *grouping)),
        Graph(
            "text",
            text,
            {"tokens": ids},
            {"tokens": {0: "T", 1: "L"}},
            ("features", *texts),
            {"L": config.text.context},
        ),
        Graph("caption", caption, {"features": chunks}, {"features": {0: "Q"}}, ("whole",)),
    ]
    if network.has_part:
        asked = {
            "segments": torch.ones(2, config.tokens[config.part_stage - 1], config.embed_dim),
            "texts": torch.ones(3, config.embed_dim),
        }
        sizes = {"segments": {0: "B"}, "texts": {0: "T"}}
        found.append(Graph("score", ScoreGraph(network), asked, sizes, ("logits", "attention")))
    return found


def chunks_of(network: CAFT) -> int:
    """Sub-captions of a long caption, M; a flat text tower takes one."""
    return 1 if network.whole_caption is None else len(network.whole_caption.positions) - 1


class _Part(nn.Module):
    """A network less what this part does not use, whose weights would go into its file; values are shared, not copied."""

    uses: tuple[str, ...]

    def __init__(self, network: CAFT) -> None:
        super().__init__()
        part = copy.copy(network)
        for kind in ("_modules", "_parameters"):
            named = vars(network)[kind]
            setattr(part, kind, {name: value if name in self.uses else None for name, value in named.items()})
        self.network = part


class ImageGraph(_Part):
    """Pictures to features: superpixels, sampling and poolings inside."""

    uses = ("superpixels", "vision", "part_norm", "part_projection", "whole_norm", "whole_projection")

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Takes pixels uint8 (B, 3, S, S); gives features, nested label maps, and how tokens were grouped."""
        network, picks = self.network, list[Tensor]()
        if isinstance(network.vision, FlatVisionEncoder):
            hierarchy, labels = forms.flat(network.vision, network.stem(pixels))
        else:
            labels = network.superpixel_labels(pixels)
            hierarchy, picks = forms.grouped(network.vision, network.stem(pixels), labels)
        whole = F.normalize(network.project_whole(hierarchy.cls), dim=-1)
        assignments = [logits.softmax(2) for logits in hierarchy.logits]
        maps = torch.stack(network.stage_labels(ImageFeatures(whole, None, labels, assignments)), dim=1)
        has_part = network.part_projection is not None
        segments = [network.project_part(hierarchy.stages[network.config.part_stage - 1])] if has_part else []
        return (whole, *segments, maps, *assignments, *picks)


class TextGraph(_Part):
    """Sub-captions, or single texts, to features."""

    uses = ("sub_caption", "sub_caption_projection")

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Takes ids (T, L); gives what `CaptionGraph` takes, (T, W), and what the part level compares, (T, D)."""
        network = self.network
        features = forms.sub_captions(network.sub_caption, tokens)
        return (
            (features,)
            if network.sub_caption_projection is None
            else (features, network.project_sub_captions(features))
        )


class CaptionGraph(_Part):
    """Features of a caption's chunks to its whole feature."""

    uses = ("whole_caption", "whole_caption_projection", "sub_caption_projection")

    def forward(self, features: Tensor) -> tuple[Tensor]:
        """Takes features (Q, M, W) of `TextGraph`; gives features of unit norm, (Q, D)."""
        encoder = self.network.whole_caption
        combined = features[:, 0] if encoder is None else forms.whole_caption(encoder, features)
        projection = self.network.whole_caption_projection or self.network.sub_caption_projection
        assert projection is not None
        return (F.normalize(projection(combined), dim=-1),)


class ScoreGraph(_Part):
    """Text-conditioned pooling: how well each text fits each picture, and where it looks."""

    uses = ("pool", "part_log_scale", "part_bias")

    def forward(self, segments: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Takes segments (B, N, D) and texts (T, D); gives logits (B, T) and attention (B, T, N)."""
        asked = texts.expand(segments.shape[0], -1, -1)
        pooled, attention = self.network._pool(asked, segments)
        return self.network._part_logit(pooled, asked), attention[..., :-1].mean(1)
