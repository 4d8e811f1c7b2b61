"""Attention, MLP and transformer block, shared by both towers.

Legend of shapes, used in the whole package: `B` images on this rank, `N` superpixel tokens, `M`
segments, `K` sub-captions an image, `C` chunks of a long caption, `Q` captions asked, `T` texts,
`L` tokens of a text, `D` embedding, `W` width, `H` heads, `S` image side in pixels.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class Attention(nn.Module):
    """Multi-head self-attention with a packed, biased projection of queries, keys and values.

    Args:
        width: Width of the tokens, W.
        heads: Number of heads; divides the width.
        causal: Each position sees itself and the ones before it.
    """

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, starts: Tensor | None = None, longest: int = 0) -> Tensor:
        """Mixes tokens (B, N, W) into tokens (B, N, W).

        Args:
            tokens: Sequences of one length; or with `starts`, of many, one after the other, (sum of N, W), in half
                precision on a GPU.
            starts: Where each sequence starts, and the end of the last, int32.
            longest: At least the length of the longest.
        """
        if starts is not None:
            query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).unbind(1)
            return self.proj(packed_attention(query, key, value, starts, longest, self.causal).flatten(1))
        batch, length, width = tokens.shape
        qkv = self.qkv(tokens).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, N, W / H)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.proj(mixed.transpose(1, 2).reshape(batch, length, width))


def packed_attention(query: Tensor, key: Tensor, value: Tensor, starts: Tensor, longest: int, causal: bool) -> Tensor:
    """Attention inside each of many sequences, one after the other: three of (sum of N, H, e) to the same."""
    from torch.nn.attention.varlen import varlen_attn

    window = (-1, 0 if causal else -1)
    mixed = varlen_attn(query, key, value, starts, starts, longest, longest, window_size=window)
    assert isinstance(mixed, Tensor)
    return mixed


class MLP(nn.Module):
    """Two linear maps with an exact GELU between them: (..., W) -> (..., W).

    Args:
        width: Width of the input and the output, W.
        hidden: Width between the two maps.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, features: Tensor) -> Tensor:
        """Maps features (..., W) to features (..., W)."""
        return self.fc2(F.gelu(self.fc1(features)))


class TransformerBlock(nn.Module):
    """Pre-norm block: x + attention(norm(x)), then x + mlp(norm(x)).

    Args:
        width: Width of the tokens, W.
        heads: Number of heads.
        mlp_ratio: Hidden width of the MLP over the width.
        causal: As in `Attention`.
        eps: Of both layer norms; 1e-6 in the image tower (CAST), 1e-5 in the text tower (CLIP).
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int, *, causal: bool = False, eps: float = 1e-6) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads, causal)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, mlp_ratio * width)

    def forward(self, tokens: Tensor, starts: Tensor | None = None, longest: int = 0) -> Tensor:
        """Maps tokens (B, N, W) to tokens (B, N, W); sequences of many lengths as `Attention`."""
        tokens = tokens + self.attn(self.norm1(tokens), starts, longest)
        return tokens + self.mlp(self.norm2(tokens))


class Stage(nn.Sequential):
    """Transformer blocks, one after the other.

    Attributes:
        recomputed: Whether the backward pass computes the blocks again from their input, which alone is kept then: the
            same numbers to the bit, since nothing is drawn in a block, for less memory and a third more work.
    """

    recomputed = False

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens (B, N, W) to tokens (B, N, W)."""
        if not (self.recomputed and torch.is_grad_enabled()):
            return cast(Tensor, super().forward(tokens))
        found = checkpoint(super().forward, tokens, use_reentrant=False, preserve_rng_state=False)
        return cast(Tensor, found)


def sin_cos_positions(side: int, width: int) -> Tensor:
    """Fixed 2-D sine and cosine position encodings of a square grid, as CAST's.

    With q = width / 4 and frequencies 10000^(-i/q), the channels are sin(row), cos(row), sin(column),
    cos(column), q each.

    Args:
        side: Rows and columns of the grid.
        width: Channels, a multiple of four.

    Returns:
        Encodings (side, side, width), float32.
    """
    quarter = width // 4
    # On the CPU also where a model is built without values: no checkpoint holds these.
    frequencies = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64, device="cpu") / quarter)
    angles = torch.arange(side, dtype=torch.float64, device="cpu")[:, None] * frequencies  # (side, q)
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, W / 2)
    rows = waves[:, None].expand(side, side, 2 * quarter)
    columns = waves[None, :].expand(side, side, 2 * quarter)
    return torch.cat([rows, columns], dim=2).float()
