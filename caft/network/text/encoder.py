"""The hierarchical text encoder: sub-captions from tokens, whole captions from sub-captions (Eqs. 1-3)."""

import inspect
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from caft.network.layers import MLP, TransformerBlock

# Texts are grouped by length, rounded up to this, and each group is encoded without the rest of the padding.
_LENGTH_STEP = 8


def encoded_lengths(tokens: Tensor) -> Tensor:
    """Positions of each text that are encoded: its length up to the end token, rounded up to a multiple of eight.

    Args:
        tokens: Ids with start and end, zero padded, (T, L).

    Returns:
        Lengths, at most L, (T,).
    """
    ends = tokens.argmax(1)
    return ((ends + _LENGTH_STEP) // _LENGTH_STEP * _LENGTH_STEP).clamp(max=tokens.shape[1])


class Packed(NamedTuple):
    """Texts without their padding, one after the other, each distinct text once.

    Attributes:
        ids: Of all tokens, (M,).
        positions: Of each token in its text, (M,).
        starts: Where each text starts, and M, int32 (distinct texts + 1,).
        ends: Place of each text's end token, (distinct texts,).
        places: Which of the distinct texts each text is, (T,).
    """

    ids: Tensor
    positions: Tensor
    starts: Tensor
    ends: Tensor
    places: Tensor


def pack(tokens: Tensor) -> Packed:
    """Packs texts, ids (T, L) with start and end, zero padded, on the host."""
    rows = np.ascontiguousarray(tokens.numpy())
    _, first, places = np.unique(
        rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel(), return_index=True, return_inverse=True
    )
    distinct = rows[first]
    lengths = distinct.argmax(1) + 1
    starts = np.zeros(len(distinct) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    kept = np.arange(distinct.shape[1]) < lengths[:, None]
    positions = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    parts = distinct[kept], positions, starts.astype(np.int32), starts[1:] - 1, places.reshape(-1)
    return Packed(*map(torch.from_numpy, parts))


def can_pack() -> bool:
    """Whether this torch has attention over packed sequences, with a window: 2.11 and later."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return "window_size" in inspect.signature(varlen_attn).parameters


class SubCaptionTransformer(nn.Module):
    """CLIP's causal text transformer up to its final norm; a text's feature is the one at its end token.

    Args:
        vocabulary: Number of token ids; the end token has the largest.
        context: Most tokens of a text, L.
        width: W.
        heads: Attention heads.
        layers: Blocks.

    Attributes:
        tokens_at_once: More tokens than these are encoded in portions that are computed again in the backward pass,
            which bounds the memory and changes no value; None takes any number at once.
    """

    tokens_at_once: int | None = None

    def __init__(self, vocabulary: int, context: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.empty(context, width))
        self.blocks = _blocks(width, heads, layers)
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)

    def forward(self, tokens: Tensor, packed: Packed | None = None) -> Tensor:
        """Encodes each text on its own.

        Causality makes padding after the end token invisible, so cutting it off changes no feature: texts are grouped by
        length, at most one group for each multiple of eight up to L, and equal texts are encoded once.

        Args:
            tokens: Ids with start and end, zero padded, (T, L).
            packed: The same texts, packed: taken instead. No group depends on them then, which a GPU would have to be
                asked for.

        Returns:
            Features at the end tokens after the final norm, (T, W).
        """
        if packed is not None:
            hidden = self.embedding(packed.ids) + nn.functional.embedding(packed.positions, self.positions)
            hidden = self.through(hidden, packed.starts)
            return self.norm(hidden.index_select(0, packed.ends)).index_select(0, packed.places)
        distinct, places = tokens.unique(dim=0, return_inverse=True)  # places: (T,)
        ends = distinct.argmax(1)
        lengths = encoded_lengths(distinct)
        order = lengths.argsort(stable=True)
        limit = self.tokens_at_once
        recompute = limit is not None and torch.is_grad_enabled() and int(lengths.sum()) > limit
        portions: list[tuple[Tensor, Tensor]] = []  # ids (rows, length) and places of the end tokens
        start = 0
        for length, count in zip(*(part.tolist() for part in lengths.unique(return_counts=True)), strict=True):
            of_length = order[start : start + count]
            start += count
            for rows in of_length.split(max(1, limit // length) if limit else count):
                portions.append((distinct[rows, :length], ends[rows]))
        # Looked up at once: the gradient of each lookup is a table as large as the vocabulary.
        embedded = self.embedding(torch.cat([ids.flatten() for ids, _ in portions]))
        features = []
        for (ids, last), hidden in zip(portions, embedded.split([ids.numel() for ids, _ in portions]), strict=True):
            arguments = hidden.unflatten(0, ids.shape), last
            if recompute:
                features.append(checkpoint(self._encode, *arguments, use_reentrant=False, preserve_rng_state=False))
            else:
                features.append(self._encode(*arguments))
        return self.norm(torch.cat(features)).index_select(0, order.argsort()[places])

    def through(self, hidden: Tensor, starts: Tensor) -> Tensor:
        """Packed tokens (M, W) through all blocks."""
        for block in self.blocks:
            hidden = block(hidden, starts, len(self.positions))
        return hidden

    def _encode(self, embedded: Tensor, ends: Tensor) -> Tensor:
        """Features at the end tokens, before the norm, of texts cut to one length, (T, L, W) to (T, W)."""
        hidden = self.blocks(embedded + self.positions[: embedded.shape[1]])
        return hidden[torch.arange(len(hidden), device=hidden.device), ends]


class WholeCaptionTransformer(nn.Module):
    """Sub-caption features of one long caption to one feature.

    An adapter x + gamma * MLP(x), a class token appended last, learned positions, causal blocks, and the norm of the
    last position, which sees all others. The order is the authors' release's; the paper does not say.
    """

    def __init__(self, chunks: int, width: int, heads: int, layers: int, adapter: int) -> None:
        super().__init__()
        self.adapter = MLP(width, adapter)
        self.gamma = nn.Parameter(torch.full((width,), 1e-3))
        self.cls = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(chunks + 1, width))
        self.blocks = _blocks(width, heads, layers)
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.cls, std=0.01)
        nn.init.normal_(self.positions, std=0.01)

    def forward(self, features: Tensor) -> Tensor:
        """Maps sub-caption features (Q, C, W) to whole-caption features (Q, W)."""
        features = features + self.gamma * self.adapter(features)
        sequence = torch.cat([features, self.cls.expand(len(features), -1, -1)], dim=1)  # (Q, C + 1, W)
        return self.norm(self.blocks(sequence + self.positions)[:, -1])


def _blocks(width: int, heads: int, layers: int) -> nn.Sequential:
    """Causal blocks with CLIP's start values."""
    blocks = nn.Sequential(*(TransformerBlock(width, heads, 4, causal=True, eps=1e-5) for _ in range(layers)))
    deep = width**-0.5 * (2 * layers) ** -0.5
    for block in blocks:
        assert isinstance(block, TransformerBlock)
        nn.init.normal_(block.attn.qkv.weight, std=width**-0.5)
        nn.init.normal_(block.attn.proj.weight, std=deep)
        nn.init.normal_(block.mlp.fc1.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(block.mlp.fc2.weight, std=deep)
        nn.init.zeros_(block.attn.qkv.bias)
        nn.init.zeros_(block.attn.proj.bias)
    return blocks
