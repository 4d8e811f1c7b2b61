"""Part-level cosines of all pairs of images and texts, exact, without a pooled feature for any pair.

Between attention and cosine everything is linear, so the output projection `W` and `b` is never applied to a pair. With
the attention `a` of a pair, its mixed values `p` of all heads side by side, and the text of unit norm `t`, the pooled
feature is u = W p + b, and

    u . t = p . (W' t) + b . t                      W' t and b . t once a text
    |u|^2 = p . (W' W) p + 2 p . (W' b) + b . b     by the mixed values: W' W and W' b once in all
    |u|^2 = a . (V V') a + 2 a . (V b) + b . b      by the attention: V V' and V b once an image, V its values mapped by W

The second way is cheaper for few segments and heads; `by_attention` counts. The fused part loss has the same algebra, with
gradients (caft/loss/part_tiles.py); this is the forward pass alone, for scores.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from caft.network.text_pool import TextConditionedPool

# Floor of a norm, that of torch's cosine similarity.
_EPS = 1e-8

# Numbers in the largest tensor of a tile, which bounds the memory of all: 8 MB, which stay in a CPU's cache; a GPU needs
# more work at a time.
_NUMBERS_ON_CPU = 2**21
_NUMBERS_ON_GPU = 2**24

# Of a symmetric matrix, the blocks of this side above the diagonal are not multiplied.
_BLOCK = 128


class _Texts(NamedTuple):
    """What captions bring to every pair.

    Attributes:
        query: Scaled queries of their chunks, (Q, C, H, e).
        moved: Chunks of unit norm times the output projection, (Q, C, H, e).
        offset: Their products with its bias, (Q, C).
    """

    query: Tensor
    moved: Tensor
    offset: Tensor

    @classmethod
    def of(cls, pool: TextConditionedPool, texts: Tensor) -> "_Texts":
        unit = F.normalize(texts, dim=-1, eps=_EPS)
        moved = (unit @ pool.out.weight).unflatten(-1, (pool.heads, -1))
        return cls(pool.project_queries(texts), moved, unit @ pool.out.bias)

    def take(self, place: slice | Tensor) -> "_Texts":
        return _Texts(*(tensor[place] for tensor in self))


class _Norm(NamedTuple):
    """The squared norm of a pooled feature less b . b: its quadratic form, as `_halved` gives it, and its linear one."""

    quadratic: Tensor
    linear: Tensor


class _Images(NamedTuple):
    """What images bring to every pair.

    Attributes:
        key: Keys, (b, N, H, e), with the empty slot last if there is one.
        value: Values, (b, N, H, e), without it: its value is zero.
        norm: The squared norm by the attention, of (b, H N, H N) and (b, 1, H N), or by the mixed values, of (D, D)
            and (D,).
    """

    key: Tensor
    value: Tensor
    norm: _Norm


def by_attention(pool: TextConditionedPool, segments: int, texts: int) -> bool:
    """Whether the norm by the attention takes fewer multiplications than by the mixed values, for one image."""
    width, dim = pool.heads * segments, pool.out.in_features
    return segments * dim**2 + width**2 * dim + texts * width**2 < texts * dim**2


class PartCosines:
    """Mean cosines of captions' chunks with what they pool of images.

    Texts are prepared once, and each image once; a tile of pairs is reduced to captions before the next is begun.

    Args:
        pool: The pooling.
        texts: Chunk features of captions, not normalised, (Q, C, D).
    """

    def __init__(self, pool: TextConditionedPool, texts: Tensor) -> None:
        self.pool = pool
        self.chunks = texts.shape[1]
        self.texts = _Texts.of(pool, texts.float())
        weight, bias = pool.out.weight, pool.out.bias
        self.norm = _Norm(_halved(weight.T @ weight), 2 * weight.T @ bias)
        self.constant = bias @ bias

    def of_all(self, segments: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Scores images with every caption.

        Args:
            segments: Of the images, (B, N, D), on any device.

        Yields:
            A range of images and their scores (b, Q), block after block.
        """
        captions = len(self.texts.offset)
        images, columns = self._tile(segments.shape[1], captions)
        for first in range(0, len(segments), images):
            block = self._prepared(segments[first : first + images], captions * self.chunks)
            tiles = [
                self._scores(block, self.texts.take(slice(column, column + columns)))
                for column in range(0, captions, columns)
            ]
            yield slice(first, first + images), torch.cat(tiles, dim=1)

    def of_some(self, segments: Tensor, captions: Tensor) -> Tensor:
        """Scores one image with some captions: segments (N, D) and numbers of captions (K,) to (K,)."""
        image = self._prepared(segments[None], len(captions) * self.chunks)
        _, columns = self._tile(len(segments), len(captions))
        return torch.cat([self._scores(image, self.texts.take(some))[0] for some in captions.split(columns)])

    def _tile(self, segments: int, captions: int) -> tuple[int, int]:
        """Images and captions of a tile."""
        numbers = _NUMBERS_ON_CPU if self.constant.device.type == "cpu" else _NUMBERS_ON_GPU
        pool = self.pool
        wide = max(pool.heads * (segments + 1), pool.out.in_features) * self.chunks
        columns = max(1, min(captions, numbers // wide))
        images = max(1, numbers // (wide * columns))
        if by_attention(pool, segments, captions * self.chunks):
            images = max(1, min(images, numbers // (pool.heads * segments) ** 2))
        return images, columns

    def _prepared(self, segments: Tensor, texts: int) -> _Images:
        pool = self.pool
        key, value = pool.project_tokens(segments.to(self.constant.device).float())
        norm = self.norm
        if by_attention(pool, segments.shape[1], texts):
            maps = pool.out.weight.unflatten(1, (pool.heads, -1))
            mapped = torch.einsum("bnhe,ohe->bhno", value, maps).flatten(1, 2)
            norm = _Norm(_halved(mapped @ mapped.transpose(1, 2)), 2 * (mapped @ pool.out.bias)[:, None])
        if pool.empty_slot:
            key = F.pad(key, (0, 0, 0, 0, 0, 1))  # (b, N + 1, H, e)
        return _Images(key, value, norm)

    def _scores(self, images: _Images, texts: _Texts) -> Tensor:
        """Mean cosines of a tile, (b, Q)."""
        query, moved, offset = (tensor.flatten(0, 1) for tensor in texts)  # of all chunks, (T, ...)
        attention = torch.einsum("qhe,bnhe->bhqn", query, images.key).softmax(-1)
        attention = attention[..., : images.value.shape[1]]
        if images.norm.quadratic.dim() == 3:
            basis = attention.transpose(1, 2).flatten(2)  # (b, T, H N)
            against = torch.einsum("qhe,bnhe->bqhn", moved, images.value).flatten(2)
        else:
            basis = torch.einsum("bhqn,bnhe->bqhe", attention, images.value).flatten(2)  # (b, T, D)
            against = moved.flatten(1)
        dot = (basis * against).sum(-1) + offset
        squared = _quadratic(basis, images.norm.quadratic) + (basis * images.norm.linear).sum(-1) + self.constant
        # No cosine is beyond one but by rounding, of a norm that heads which cancel have made too small.
        cosines = (dot * squared.clamp(min=_EPS**2).rsqrt()).clamp(-1, 1)
        return cosines.unflatten(1, (-1, self.chunks)).mean(2)


def _halved(matrix: Tensor) -> Tensor:
    """Symmetric matrices (..., n, n) with twice the blocks below the diagonal, which then stand for those above too."""
    size = matrix.shape[-1]
    block = torch.arange(size, device=matrix.device) // _BLOCK
    return torch.where(block[:, None] > block, 2 * matrix, matrix)


def _quadratic(vectors: Tensor, halved: Tensor) -> Tensor:
    """Products x . M x of vectors (b, T, n), with M as `_halved` gives it, (n, n) or (b, n, n): (b, T)."""
    total = vectors.new_zeros(())
    for first in range(0, vectors.shape[-1], _BLOCK):
        columns = slice(first, first + _BLOCK)
        total = total + ((vectors[..., first:] @ halved[..., first:, columns]) * vectors[..., columns]).sum(-1)
    return total
