"""Part-level cosines chunk by chunk, each with the error that rounding may have given it: what proofs about scores need.

A caption's cosine is the mean over its chunks, and a chunk that nobody has looked at has one at most. So after some chunks
it is known what a caption cannot exceed, and a pair that needs more is done with.

Most of a cosine's cost is the norm of the pooled feature u. Its part in a few directions P is no longer, so u . t / |P u|
is an upper bound of a cosine that is not negative, at less than half the cost and whatever P is. The directions are those that
pooling's output projection stretches most.

Rounding. Errors of single operations are taken to be independent, as in Higham and Mary (2019): with the unit of float32
r = 2^-24, a product of vectors is then off by some 0.4 r |x||y| if its terms have both signs and by 0.33 sqrt(n) r |x||y| if
they have one (standard deviations), a logit and the attention that follows in proportion. Four of these at least, at 512
numbers, are allowed for: with the largest pooled feature that an image can have, L = |W| sqrt(sum over heads of max |v|^2)
+ |b|,

    u . t, |P u| and |u| within  e1 = r L (32 + 4 max|q| max|k|)
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
from caft.network.text_pool import TextConditionedPool

_UNIT = 2.0**-24
_DIRECTIONS = 8  # one of so many, in which a norm is taken for a bound
_MOST = 0.8  # of the captions


class PreparedImage(NamedTuple):
    """An image, ready to be scored.

    Attributes:
        pairs: As `PartCosines` prepares it, b = 1.
        longest: No pooled feature is longer, L.
        e1: By how much rounding moves a product, see above.
        e2: By how much, beyond that, a squared norm.
    """

    pairs: PairImages
    longest: float
    e1: float
    e2: float


class Reached(NamedTuple):
    """Captions that may reach what is wanted of them.

    Attributes:
        captions: Their numbers, (K,), on the CPU as the rest.
        cosines: Their cosines, (K,).
        errors: Of these, infinite where nothing is known, (K,).
        bounds: Bounds that were taken on the way, of one chunk each.
        looks: Cosines of one chunk that were.
    """

    captions: Tensor
    cosines: Tensor
    errors: Tensor
    bounds: int
    looks: int


class ChunkCosines(PartCosines):
    """Cosines of one chunk of some captions at a time.

    Args:
        pool: The pooling.
        texts: Chunk features of captions, not normalised, (Q, C, D).
    """

    def __init__(self, pool: TextConditionedPool, texts: Tensor) -> None:
        super().__init__(pool, texts)
        self._bias = float(pool.out.bias.norm())
        self._query = float(self.texts.query.norm(dim=-1).amax())
        weight, bias = pool.out.weight.double(), pool.out.bias.double()
        directions, stretched, _ = torch.linalg.svd(weight)
        self._norm = float(stretched[0])
        leading = directions[:, : len(weight) // _DIRECTIONS].T * (1 - 2 * _UNIT)
        self._seen, self._seen_bias = (leading @ weight).T.float().contiguous(), (leading @ bias).float()

    def reorder(self, order: Tensor) -> None:
        """Puts the chunks of each caption into another order, (Q, C), on the CPU."""
        place = order.to(self.constant.device)
        captions = torch.arange(len(place), device=place.device)[:, None]
        for name in PairTexts._fields:  # one by one: beside all of them, a second copy of all would be held
            self.texts = self.texts._replace(**{name: getattr(self.texts, name)[captions, place]})

    def reaching(self, segments: Tensor, wanted: Tensor) -> Reached:
        """Captions whose cosine with an image of segments (N, D) may reach a number, (Q,) in float64 on the CPU.

        Chunk by chunk, first by bounds, and what they cannot rule out by the cosines.
        """
        captions, bounds, looks = (wanted <= 1).nonzero()[:, 0], 0, 0
        most = torch.ones(len(captions), self.chunks)
        total, error = torch.zeros(len(captions)), torch.zeros(len(captions))
        if not len(captions):
            return Reached(captions, total, error, 0, 0)
        image = self.prepared(segments)
        steps = [(exact, chunk) for exact in (False, True) for chunk in range(self.chunks)]
        for exact, chunk in steps[self.chunks :] if image.pairs.is_gram else steps:
            asked = captions.to(self.constant.device)
            if exact:
                looks += len(captions)
                found, wrong = (tensor.cpu() for tensor in self.of_chunk(image, asked, chunk))
                total, error = total + found / self.chunks, error + wrong / self.chunks
                most[:, chunk] = found + wrong
            else:
                bounds += len(captions)
                most[:, chunk] = self.most_of_chunk(image, asked, chunk).cpu()
            kept = ~(most.mean(1, dtype=torch.float64) < wanted[captions])
            captions, most, total, error = captions[kept], most[kept], total[kept], error[kept]
            if not len(captions):
                break
        return Reached(captions, total, error, bounds, looks)

    def prepared(self, segments: Tensor) -> PreparedImage:
        """Prepares an image of segments (N, D)."""
        pairs = self._prepared(segments[None])
        values = pairs.value[0].norm(dim=-1).amax(0).square().sum().sqrt()
        longest = self._norm * float(values) + self._bias
        logits = self._query * float(pairs.key[0].norm(dim=-1).amax())
        e1 = _UNIT * longest * (32 + 4 * logits)
        return PreparedImage(pairs, longest, e1, 32 * _UNIT * longest**2)

    def of_chunk(self, image: PreparedImage, captions: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """Cosines of one chunk of some captions (K,), and their errors, infinite where nothing is known: each (K,)."""
        _, columns = self._tile(image.pairs.value.shape[1], len(captions))
        tiles = [self._of_chunk(image, some, chunk) for some in captions.split(columns * self.chunks)]
        cosines, errors = zip(*tiles, strict=True)
        return torch.cat(cosines), torch.cat(errors)

    def most_of_chunk(self, image: PreparedImage, captions: Tensor, chunk: int) -> Tensor:
        """What cosines of one chunk of some captions cannot exceed, (K,); not of images in the Gram form."""
        every = len(self.texts.offset)
        _, columns = self._tile(image.pairs.value.shape[1], every)
        step = columns * self.chunks
        if len(captions) > _MOST * every:  # all of them are read where they lie sooner than most are copied
            tiles = [self._most(image, slice(first, first + step), chunk) for first in range(0, every, step)]
            return torch.cat(tiles)[captions]
        return torch.cat([self._most(image, some, chunk) for some in captions.split(step)])

    def _most(self, image: PreparedImage, captions: Tensor | slice, chunk: int) -> Tensor:
        basis, dot = self._products(image, captions, chunk)
        length = torch.addmm(self._seen_bias, basis[0], self._seen).norm(dim=-1) - image.e1
        dot = dot + image.e1
        most = dot / torch.where(dot > 0, length, image.longest) + _UNIT
        return torch.where(length > EPS, most.clamp(max=1), 1)

    def _products(self, image: PreparedImage, captions: Tensor | slice, chunk: int) -> tuple[Tensor, Tensor]:
        texts = PairTexts(*(tensor[captions, chunk] for tensor in self.texts))
        _, basis, against = pair_products(texts, image.pairs)
        return basis, (basis * against).sum(-1)[0] + texts.offset

    def _of_chunk(self, image: PreparedImage, captions: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        basis, dot = self._products(image, captions, chunk)
        linear = 2 * image.pairs.linear.reshape(-1)
        squared = (_quadratic(basis, image.pairs.quadratic) + (basis * linear).sum(-1) + self.constant)[0]
        length = squared.clamp(min=EPS**2).sqrt()
        least = squared - 2 * length * image.e1 - image.e2
        error = (2 * length * image.e1 + image.e2) / least + _UNIT
        return (dot / length).clamp(-1, 1), torch.where(least > EPS**2, error, torch.inf)


class PairCosines:
    """Mean cosines of single pairs in float64, by the pooled feature itself: what decides between scores that are close.

    A pair is given the same bits whatever else is scored, so equal pairs tie. The few texts of a pair go to the segments,
    through the projections of keys and values, which is a quarter of the work of taking all segments through them.
    """

    def __init__(self, pool: TextConditionedPool) -> None:
        self.pool = deepcopy(pool).cpu().double()

    @torch.no_grad()
    def of(self, segments: Tensor, captions: Tensor) -> Tensor:
        """Segments of an image (N, D) and chunks of captions (K, C, D) to float32 cosines (K,), on the CPU."""
        if not len(captions):
            return torch.empty(0)
        tokens = segments.cpu().double()
        asked, mixed = self.pool.norm_key(tokens), self.pool.norm_value(tokens)
        return torch.stack([self._mean(asked, mixed, chunks) for chunks in captions.cpu().double()]).float()

    def _mean(self, asked: Tensor, mixed: Tensor, chunks: Tensor) -> Tensor:
        pool = self.pool
        query = pool.project_queries(chunks)  # (C, H, e)
        key, value = (layer.weight.unflatten(0, query.shape[1:]) for layer in (pool.key, pool.value))  # (H, e, D)
        key_bias, value_bias = (layer.bias.unflatten(0, query.shape[1:]) for layer in (pool.key, pool.value))
        logits = torch.einsum("che,hed->chd", query, key) @ asked.T + (query * key_bias).sum(-1, keepdim=True)
        attention = F.pad(logits, (0, 1)).softmax(-1)[..., :-1]  # less the empty slot's
        values = torch.einsum("chd,hed->che", attention @ mixed, value) + attention.sum(-1, keepdim=True) * value_bias
        pooled = F.normalize(pool.out(values.flatten(1)), dim=-1, eps=EPS)
        return (pooled * F.normalize(chunks, dim=-1, eps=EPS)).sum(-1).mean()
