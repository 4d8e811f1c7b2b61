"""Graph pooling: segments to fewer segments, as CAST's."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caft.network.layers import Attention
from caft.network.vision.sampling import farthest_points

# Similarity is this times a cosine (temperature 0.2); a constant in CAST and in the authors' code.
_SIMILARITY_SCALE = 5.0


class Pooled(NamedTuple):
    """The result of one pooling.

    Attributes:
        cls: Class token after the pooling's MLP, (B, 1, W).
        groups: Coarser segments, (B, M, W).
        logits: Similarity of each token with each group, (B, N, M); softmax over M is the assignment.
        picks: Token that seeds each group, (B, M).
    """

    cls: Tensor
    groups: Tensor
    logits: Tensor
    picks: Tensor


class GraphPool(nn.Module):
    """Groups N tokens into M around picked tokens; each token spreads over the groups softly.

    Grouping features are the tokens after one self-attention, centred over the tokens. A group is the weighted
    mean of its tokens in a 4 W hidden space, projected back and added to the token that seeds it. The class
    token passes through the same two maps with a residual and takes no part in the grouping. The soft
    assignment is used in training and at test alike.

    Args:
        width: Width of the tokens, W.
        heads: Heads of the grouping attention.
        groups: Number of groups, M.
        dropout: On the hidden values, in training only.
    """

    def __init__(self, width: int, heads: int, groups: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.groups = groups
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.bias = nn.Parameter(torch.zeros(width))
        self.expand_norm = nn.LayerNorm(width, eps=1e-5)
        self.expand = nn.Linear(width, 4 * width)
        self.dropout = nn.Dropout(dropout)
        self.reduce_norm = nn.LayerNorm(4 * width, eps=1e-5)
        self.reduce = nn.Linear(4 * width, width)
        nn.init.normal_(self.bias, std=0.01)

    def forward(self, cls: Tensor, tokens: Tensor, empty: Tensor | None = None) -> Pooled:
        """Pools tokens (B, N, W) and the class token (B, 1, W); one that stands for nothing, `empty` (B, N), seeds no group."""
        return self.group(cls, tokens, farthest_points(tokens.detach(), self.groups, empty))

    def group(self, cls: Tensor, tokens: Tensor, picks: Tensor) -> Pooled:
        """Pools tokens around given seeds: all of the pooling but the sampling, whose loop no compiler should unroll.

        Takes the class token (B, 1, W), the tokens (B, N, W) and the token that seeds each group, (B, M).
        """
        features = tokens + self.attn(self.norm(tokens))
        features = features - features.mean(1, keepdim=True) + self.bias  # (B, N, W)
        features = F.normalize(features, dim=2, eps=1e-12)
        seeds = _gather(features, picks)  # (B, M, W)
        logits = _SIMILARITY_SCALE * features @ seeds.transpose(1, 2)  # (B, N, M)
        assignment = logits.softmax(2)

        hidden = self.expand(self.expand_norm(torch.cat([cls, tokens], dim=1)))
        hidden = self.dropout(F.gelu(hidden))  # (B, 1 + N, 4 W)
        mass = assignment.sum(1)[..., None]  # (B, M, 1)
        means = assignment.transpose(1, 2) @ hidden[:, 1:] / mass  # (B, M, 4 W)
        values = self.reduce(self.reduce_norm(torch.cat([hidden[:, :1], means], dim=1)))
        return Pooled(cls + values[:, :1], _gather(tokens, picks) + values[:, 1:], logits, picks)


def _gather(tokens: Tensor, picks: Tensor) -> Tensor:
    return tokens.gather(1, picks[..., None].expand(-1, -1, tokens.shape[2]))
