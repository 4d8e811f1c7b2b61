"""The fine-to-coarse image encoder: superpixel tokens, then ever fewer segments."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from caft.network.layers import Stage, TransformerBlock, sin_cos_positions
from caft.network.vision.graph_pool import GraphPool
from caft.network.vision.segments import superpixel_tokens
from caft.params.models import ModelParams


@dataclass(frozen=True)
class Hierarchy:
    """Tokens of every stage, and how tokens were grouped, for a batch of images.

    Attributes:
        cls: Class token after the last stage, before any norm, (B, W).
        stages: Tokens of each stage after its blocks, (B, N_s, W), fine to coarse.
        stage_cls: Class token of each stage after its blocks, (B, W).
        logits: Similarity of the tokens of stage s with the groups of stage s + 1, (B, N_s, N_{s+1}).
    """

    cls: Tensor
    stages: list[Tensor]
    stage_cls: list[Tensor]
    logits: list[Tensor]


class ConvStem(nn.Module):
    """3 x 3 convolutions with batch norm, of these channels and strides, then a 1 x 1 convolution to W channels."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = 3
        for out, stride in zip(channels, strides, strict=True):
            layers += [
                nn.Conv2d(previous, out, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(inplace=True),
            ]
            previous = out
        self.layers = nn.Sequential(*layers, nn.Conv2d(previous, width, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Maps normalised images (B, 3, S, S) to features (B, h, w, W), channels last."""
        return self.layers(images).permute(0, 2, 3, 1)


class HierarchicalVisionEncoder(nn.Module):
    """Stem, superpixel tokens, and stages of blocks with a graph pooling between them (CAST).

    Args:
        config: Sizes of a tower over superpixels.
    """

    norm_eps = 1e-6  # of all norms, as CAST's

    def __init__(self, config: ModelParams) -> None:
        super().__init__()
        assert config.stem is not None and config.pool_dropout is not None, "a flat tower is FlatVisionEncoder"
        width, heads, dropout = config.width, config.heads, config.pool_dropout
        self.tokens = config.tokens
        self.stride = math.prod(config.stem.strides)
        self.stem = ConvStem(config.stem.channels, config.stem.strides, width)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("positions", sin_cos_positions(config.image_size // self.stride, width), persistent=False)
        self.stages = nn.ModuleList(
            Stage(*(TransformerBlock(width, heads, config.mlp_ratio) for _ in range(depth))) for depth in config.blocks
        )
        self.pools = nn.ModuleList(GraphPool(width, heads, groups, dropout) for groups in config.tokens[1:])
        self._initialise(width)

    def _initialise(self, width: int) -> None:
        """The authors' start: normal of deviation 0.02 at width 768, cut at two; wider maps start smaller."""
        std = 0.02 * (768 / width) ** 0.5
        nn.init.trunc_normal_(self.cls, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor, labels: Tensor) -> Hierarchy:
        """Encodes normalised images (B, 3, S, S) whose pixels belong to the superpixels `labels`, (B, S, S)."""
        return self.group(self.stem(images), labels)

    def group(self, features: Tensor, labels: Tensor) -> Hierarchy:
        """All that follows the stem, from its features (B, h, w, W): it takes each image by itself, unlike the batch norm."""
        assert isinstance(self.positions, Tensor)
        features = features + self.positions
        # Nearest label of each stem position; position (r, c) is centred on pixel (r, c) * stride.
        labels = labels[:, :: self.stride, :: self.stride]
        tokens, empty = superpixel_tokens(features, labels, self.tokens[0])
        cls = self.cls.expand(len(features), -1, -1)
        stages: list[Tensor] = []
        stage_cls: list[Tensor] = []
        logits: list[Tensor] = []
        for number, blocks in enumerate(self.stages):
            mixed = blocks(torch.cat([cls, tokens], dim=1))
            cls, tokens = mixed[:, :1], mixed[:, 1:]
            stages.append(tokens)
            stage_cls.append(cls[:, 0])
            if number < len(self.pools):
                pooled = self.pools[number](cls, tokens, empty if number == 0 else None)
                cls, tokens = pooled.cls, pooled.groups
                logits.append(pooled.logits)
        return Hierarchy(cls[:, 0], stages, stage_cls, logits)
