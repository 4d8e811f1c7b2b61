"""What the part-level cosine of an image and a caption cannot exceed, for less than the cosine takes.

The pooled feature u of a pair is never longer than what it is made of, but it may be shorter, since segments cancel; so
its norm is what a bound needs. For the orthonormal columns Q of any matrix |u| >= |Q' u|, and with u = W p + b

    cos(u, t) <= (u . t) / |Q' u|          Q' W and Q' b once per image

takes a few products for the norm in place of a form in all numbers of `p` (`caft.network.part_pairs`). Q are the leading
directions of features that the image pools for some texts: those of a trained model lie in few, and the bound is close;
random ones do not, and it is loose. A caption's cosine is the mean over its chunks, and chunks that nobody has looked at
have one at most: a pair is dropped as soon as it cannot reach what it needs.

Rounding. With the unit of float32 r = 2^-24, sums of n terms are within n r of the norms of their factors, so logits of a
head within (D + e + 16) r |q||k| of their values, attention within twice that much in proportion, and with the largest
pooled feature that an image can have, L = |W| sqrt(sum over heads of max |v|^2) + |b|,

    u . t and Q' u are within    e1 = L (4 (D + e + 16) r max|q| max|k| + 4 (D + N + 16) r)
    |u|^2, by its form, within   2 |u| e1 + e2,     e2 = 4 (D + N + 16) r L^2

of their values. Bounds are raised by these, so that they hold for the exact cosine and for that of `part_cosines` alike.
"""

from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from caft.network.part_cosines import PartCosines
from caft.network.part_pairs import EPS, PairImages, PairTexts, pair_products
from caft.network.text_pool import TextConditionedPool, attend

DIRECTIONS = 8
_TEXTS = 64  # whose pooled features show an image's directions
_UNIT = 2.0**-24


class BoundedImage(NamedTuple):
    """An image as the bounds need it.

    Attributes:
        pairs: As `PartCosines` prepares it, b = 1.
        project: Q' u without the bias, from the basis of a pair, (n, R).
        shift: Q' b, (R,).
        e1: By how much rounding moves a product, see above.
        e2: By how much, beyond that, a squared norm.
    """

    pairs: PairImages
    project: Tensor
    shift: Tensor
    e1: float
    e2: float


class PartBounds(PartCosines):
    """Upper bounds of the cosines beside the cosines themselves, one chunk of the captions at a time.

    Args:
        pool: The pooling.
        texts: Chunk features of captions, not normalised, (Q, C, D).
    """

    def __init__(self, pool: TextConditionedPool, texts: Tensor) -> None:
        super().__init__(pool, texts)
        self._norm = float(torch.linalg.matrix_norm(pool.out.weight.double(), 2))
        self._bias = float(pool.out.bias.norm())
        self._query = float(self.texts.query.norm(dim=-1).amax())
        count = texts.shape[0] * self.chunks
        some = torch.linspace(0, count - 1, min(_TEXTS, count)).long().to(pool.out.weight.device)
        self._some = PairTexts(*(tensor.flatten(0, 1)[some] for tensor in self.texts))

    def image(self, segments: Tensor) -> BoundedImage:
        """Prepares an image of segments (N, D)."""
        out, pairs = self.pool.out, self._prepared(segments[None])
        basis_to_pooled = out.weight.T
        if pairs.is_gram:
            maps = out.weight.unflatten(1, pairs.value.shape[2:])
            basis_to_pooled = torch.einsum("nhe,ohe->hno", pairs.value[0], maps).flatten(0, 1)
        _, basis, _ = pair_products(self._some, pairs)
        pooled = basis[0] @ basis_to_pooled + out.bias
        leading = torch.linalg.eigh(pooled @ pooled.T)[1][:, -DIRECTIONS:]
        directions = torch.linalg.qr(pooled.T @ leading)[0]  # orthonormal, whatever it is given
        values = pairs.value[0].norm(dim=-1).amax(0).square().sum().sqrt()
        longest = self._norm * float(values) + self._bias
        logits = self._query * float(pairs.key[0].norm(dim=-1).amax())
        width, deep = pairs.value.shape[2] * pairs.value.shape[3], pairs.value.shape[3]
        sums = 4 * (width + len(segments) + 16) * _UNIT
        e1 = longest * (4 * (width + deep + 16) * _UNIT * logits + sums)
        return BoundedImage(pairs, basis_to_pooled @ directions, out.bias @ directions, e1, sums * longest**2)

    def upper(self, image: BoundedImage, captions: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """Bounds of one chunk of some captions (K,).

        Returns:
            What the cosines cannot exceed, in [0, 1], and what the squared norms do not fall below, each (K,).
        """
        _, columns = self._tile(image.pairs.value.shape[1], len(captions))
        tiles = [self._upper(image, some, chunk) for some in captions.split(columns * self.chunks)]
        bounds, least = zip(*tiles, strict=True)
        return torch.cat(bounds), torch.cat(least)

    def _upper(self, image: BoundedImage, captions: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        texts = PairTexts(*(tensor[captions, chunk] for tensor in self.texts))
        _, basis, against = pair_products(texts, image.pairs)
        dot = (basis * against).sum(-1)[0] + texts.offset
        squared = (basis[0] @ image.project + image.shift).square().sum(-1)
        least = squared - 2 * squared.sqrt() * image.e1 - image.e2
        known = least > EPS**2
        bound = (dot + image.e1) * torch.where(known, least, 1.0).rsqrt()
        return torch.where(known, bound.clamp(0, 1), 1.0), least


def rounding(image: BoundedImage, least: Tensor) -> Tensor:
    """By how much float32 may move a cosine whose squared norm is at least `least`; infinity where that is unknown."""
    found = (2 * image.e1 * least.sqrt() + image.e2) / least
    return torch.where(least > EPS**2, found, torch.inf)


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
