"""Part-level cosines of all pairs of images and texts, exact, without a pooled feature for any pair.

The forward pass of the algebra in `caft.network.part_pairs`, tile by tile, for scores.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from caft.network.part_pairs import (
    EPS,
    PairImages,
    PairTexts,
    gram_norm,
    gram_pays,
    moved_texts,
    pair_products,
    pooled_norm,
)
from caft.network.text_pool import TextConditionedPool

# Numbers in the largest tensor of a tile, which bounds the memory of all: 8 MB, which stay in a CPU's cache; a GPU needs
# more work at a time.
_NUMBERS_ON_CPU = 2**21
_NUMBERS_ON_GPU = 2**24

# The blocks of this side above the diagonal of a symmetric matrix are not multiplied.
_BLOCK = 128


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
        weight, bias = pool.out.weight, pool.out.bias
        unit = F.normalize(texts.float(), dim=-1, eps=EPS)
        moved = moved_texts(unit, weight, pool.heads)
        self.texts = PairTexts(pool.project_queries(texts.float()), moved, unit @ bias)  # each (Q, C, ...)
        quadratic, self.linear = pooled_norm(weight, bias)
        self.quadratic = _halved(quadratic)
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
        for start in range(0, len(segments), images):
            block = self._prepared(segments[start : start + images])
            tiles = [self._scores(block, slice(first, first + columns)) for first in range(0, captions, columns)]
            yield slice(start, start + images), torch.cat(tiles, dim=1)

    def of_some(self, segments: Tensor, captions: Tensor) -> Tensor:
        """Scores one image with some captions: segments (N, D) and numbers of captions (K,) to (K,)."""
        image = self._prepared(segments[None])
        _, columns = self._tile(len(segments), len(captions))
        return torch.cat([self._scores(image, some)[0] for some in captions.split(columns)])

    def _tile(self, segments: int, captions: int) -> tuple[int, int]:
        """Images and captions of a tile."""
        numbers = _NUMBERS_ON_CPU if self.constant.device.type == "cpu" else _NUMBERS_ON_GPU
        pool = self.pool
        wide = max(pool.heads * (segments + 1), pool.out.in_features) * self.chunks
        columns = max(1, min(captions, numbers // wide))
        images = max(1, numbers // (wide * columns))
        if gram_pays(pool, segments):
            images = max(1, min(images, numbers // (pool.heads * segments) ** 2))
        return images, columns

    def _prepared(self, segments: Tensor) -> PairImages:
        """Images with the quadratic form as `_halved` gives it."""
        out = self.pool.out
        key, value = self.pool.project_tokens(segments.to(self.constant.device).float())
        quadratic, linear = self.quadratic, self.linear
        if gram_pays(self.pool, segments.shape[1]):
            quadratic, linear = gram_norm(value, out.weight, out.bias)
            quadratic = _halved(quadratic)
        return PairImages(F.pad(key, (0, 0, 0, 0, 0, 1)), value, quadratic, linear)

    def _scores(self, images: PairImages, captions: slice | Tensor) -> Tensor:
        """Mean cosines of a tile, (b, Q)."""
        texts = PairTexts(*(tensor[captions].flatten(0, 1) for tensor in self.texts))  # of all chunks, (T, ...)
        _, basis, against = pair_products(texts, images)
        dot = (basis * against).sum(-1) + texts.offset
        linear = 2 * images.linear[..., None, :]
        squared = _quadratic(basis, images.quadratic) + (basis * linear).sum(-1) + self.constant
        # Only rounding makes a cosine larger than one: of a norm that heads which cancel have made too small.
        cosines = (dot * squared.clamp(min=EPS**2).rsqrt()).clamp(-1, 1)
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
