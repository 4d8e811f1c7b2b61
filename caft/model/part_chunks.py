"""Part-level cosines chunk by chunk, each with the error that rounding may have given it: what proofs about scores need.

A caption's cosine is the mean over its chunks, and a chunk that nobody has looked at has one at most. So after some chunks
it is known what a caption cannot exceed, and a pair that needs more is done with.

Rounding. Errors of single operations are taken to be independent, as in Higham and Mary (2019): with the unit of float32
r = 2^-24, a product of vectors is then off by some 0.4 r |x||y| if its terms have both signs and by 0.33 sqrt(n) r |x||y| if
they have one (standard deviations), a logit and the attention that follows in proportion. Four of these at least, at 512
numbers, are allowed for: with the largest pooled feature that an image can have, L = |W| sqrt(sum over heads of max |v|^2)
+ |b|,

    u . t and |u| are within     e1 = r L (32 + 4 max|q| max|k|)
    |u|^2, by its form, within   2 |u| e1 + e2,     e2 = 32 r L^2

of their values, and the cosine within (2 e1 |u| + e2) / |u|^2 + r, where the norm is taken that much shorter; where it may be
zero, nothing is known. Where heads cancel, |u| is far below L and the error large, as it is indeed.
"""

from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from caft.network.part_cosines import PartCosines, _quadratic
from caft.network.part_pairs import EPS, PairImages, PairTexts, pair_products
from caft.network.text_pool import TextConditionedPool, attend

_UNIT = 2.0**-24


class PreparedImage(NamedTuple):
    """An image, ready to be scored.

    Attributes:
        pairs: As `PartCosines` prepares it, b = 1.
        e1: By how much rounding moves a product, see above.
        e2: By how much, beyond that, a squared norm.
    """

    pairs: PairImages
    e1: float
    e2: float


class ChunkCosines(PartCosines):
    """Cosines of one chunk of some captions at a time.

    Args:
        pool: The pooling.
        texts: Chunk features of captions, not normalised, (Q, C, D).
    """

    def __init__(self, pool: TextConditionedPool, texts: Tensor) -> None:
        super().__init__(pool, texts)
        self._norm = float(torch.linalg.matrix_norm(pool.out.weight.double(), 2))
        self._bias = float(pool.out.bias.norm())
        self._query = float(self.texts.query.norm(dim=-1).amax())

    def reorder(self, order: Tensor) -> None:
        """Puts the chunks of each caption into another order, (Q, C), on the CPU."""
        place = order.to(self.constant.device)
        captions = torch.arange(len(place), device=place.device)[:, None]
        self.texts = PairTexts(*(tensor[captions, place] for tensor in self.texts))

    def prepared(self, segments: Tensor) -> PreparedImage:
        """Prepares an image of segments (N, D)."""
        pairs = self._prepared(segments[None])
        values = pairs.value[0].norm(dim=-1).amax(0).square().sum().sqrt()
        longest = self._norm * float(values) + self._bias
        logits = self._query * float(pairs.key[0].norm(dim=-1).amax())
        e1 = _UNIT * longest * (32 + 4 * logits)
        return PreparedImage(pairs, e1, 32 * _UNIT * longest**2)

    def of_chunk(self, image: PreparedImage, captions: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """Cosines of one chunk of some captions (K,), and their errors, infinite where nothing is known: each (K,)."""
        _, columns = self._tile(image.pairs.value.shape[1], len(captions))
        tiles = [self._of_chunk(image, some, chunk) for some in captions.split(columns * self.chunks)]
        cosines, errors = zip(*tiles, strict=True)
        return torch.cat(cosines), torch.cat(errors)

    def _of_chunk(self, image: PreparedImage, captions: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        texts = PairTexts(*(tensor[captions, chunk] for tensor in self.texts))
        _, basis, against = pair_products(texts, image.pairs)
        dot = (basis * against).sum(-1)[0] + texts.offset
        linear = 2 * image.pairs.linear.reshape(-1)
        squared = (_quadratic(basis, image.pairs.quadratic) + (basis * linear).sum(-1) + self.constant)[0]
        length = squared.clamp(min=EPS**2).sqrt()
        least = squared - 2 * length * image.e1 - image.e2
        error = (2 * length * image.e1 + image.e2) / least + _UNIT
        return (dot / length).clamp(-1, 1), torch.where(least > EPS**2, error, torch.inf)


class PairCosines:
    """Mean cosines of single pairs in float64, by the pooled feature itself: what decides between scores that are close.

    A pair is given the same bits whatever else is scored, so equal pairs tie.
    """

    def __init__(self, pool: TextConditionedPool) -> None:
        self.pool = deepcopy(pool).cpu().double()

    @torch.no_grad()
    def of(self, segments: Tensor, captions: Tensor) -> Tensor:
        """Segments of an image (N, D) and chunks of captions (K, C, D) to float32 cosines (K,), on the CPU."""
        key, value = self.pool.project_tokens(segments.cpu().double()[None])
        found = []
        for chunks in captions.cpu().double():
            mixed, _ = attend(self.pool.project_queries(chunks), key, value)
            pooled = F.normalize(self.pool.out(mixed[0]), dim=-1, eps=EPS)
            found.append((pooled * F.normalize(chunks, dim=-1, eps=EPS)).sum(-1).mean())
        return torch.stack(found).float() if found else torch.empty(0)
