"""The flat image encoder of the baselines: a plain ViT over patches, in open_clip's form, which FLAIR builds on."""

import torch
from torch import Tensor, nn

from caft.network.layers import Stage, TransformerBlock
from caft.network.vision.encoder import Hierarchy

# Of all norms, as open_clip's.
_EPS = 1e-5


class FlatVisionEncoder(nn.Module):
    """Patch embedding, class token, learned positions, a norm, and pre-norm blocks: a hierarchy of one stage.

    open_clip's last norm, `ln_post`, belongs to the level that projects the tokens, as for the hierarchical encoder.
    Image and patch have sides of `image_size` and `patch` pixels; the MLPs are `mlp_ratio` times as wide as the tokens.
    """

    norm_eps = _EPS

    def __init__(self, image_size: int, patch: int, width: int, heads: int, mlp_ratio: int, blocks: int) -> None:
        super().__init__()
        self.side = image_size // patch
        self.patches = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.cls = nn.Parameter(torch.empty(width))
        self.positions = nn.Parameter(torch.empty(1 + self.side**2, width))
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.blocks = Stage(*(TransformerBlock(width, heads, mlp_ratio, eps=_EPS) for _ in range(blocks)))
        self._initialise(width)

    def _initialise(self, width: int) -> None:
        """open_clip's start: PyTorch's defaults, but for class token, positions and attention."""
        nn.init.normal_(self.cls, std=width**-0.5)
        nn.init.normal_(self.positions, std=width**-0.5)
        for block in self.blocks:
            assert isinstance(block, TransformerBlock)
            nn.init.xavier_uniform_(block.attn.qkv.weight)
            nn.init.zeros_(block.attn.qkv.bias)
            nn.init.zeros_(block.attn.proj.bias)

    def labels(self, images: Tensor) -> Tensor:
        """Patch at each place of the grid, row by row, for each image: (B, h, w), int64."""
        grid = torch.arange(self.side**2, device=images.device).view(self.side, self.side)
        return grid.expand(len(images), -1, -1)

    def forward(self, images: Tensor, labels: Tensor) -> Hierarchy:
        """Encodes normalised images (B, 3, S, S); labels are not used, since patches are the same in each image."""
        return self.group(self.stem(images), labels)

    def stem(self, images: Tensor) -> Tensor:
        """Patch embedding: normalised images (B, 3, S, S) to tokens (B, N, W)."""
        return self.patches(images).flatten(2).transpose(1, 2)

    def group(self, features: Tensor, labels: Tensor) -> Hierarchy:
        """All that follows: tokens of `stem`, (B, N, W), and labels as in `forward`, to the tokens of the only stage."""
        sequence = torch.cat([self.cls.expand(len(features), 1, -1), features], dim=1) + self.positions
        mixed = self.blocks(self.norm(sequence))
        cls, tokens = mixed[:, 0], mixed[:, 1:]
        return Hierarchy(cls, [tokens], [cls], [])
