"""The algebra of part-level pairs: the cosine of a text and what it pools of an image, without the pooled feature.

Between attention and cosine everything is linear, so the output projection `W` and `b` of the pooling is never applied
to a pair. With the attention `a` of a pair, its mixed values `p` of all heads side by side, and the text of unit norm
`t`, the pooled feature is u = W p + b, and

    u . t = p . (W' t) + b . t                      W' t and b . t once per text
    |u|^2 = p . (W' W) p + 2 p . (W' b) + b . b     pooled form: W' W and W' b once in all
    |u|^2 = a . (V V') a + 2 a . (V b) + b . b      Gram form: V V' and V b once per image, V its values mapped by W

`caft.network.part_cosines` scores with it; `caft.loss.part_tiles` adds the gradients.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from caft.network.text_pool import TextConditionedPool

# Floor of a norm, as in FLAIR's and open_clip's losses.
EPS = 1e-12


class PairTexts(NamedTuple):
    """What Q texts bring to their pairs.

    Attributes:
        query: Scaled queries, (Q, H, e), or (b, Q, H, e) where each image has its own texts.
        moved: W' t by head, shaped as the queries.
        offset: b . t, (Q,) or (b, Q).
    """

    query: Tensor
    moved: Tensor
    offset: Tensor


class PairImages(NamedTuple):
    """What b images bring to their pairs.

    Attributes:
        key: Keys, (b, N + 1, H, e), the empty slot last.
        value: Values, (b, N + 1, H, e), or (b, N, H, e) without the empty slot's, which is zero.
        quadratic: W' W, (D, D); in the Gram form V V' of each image, (b, H N, H N).
        linear: W' b, (D,); in the Gram form V b of each image, (b, H N).
    """

    key: Tensor
    value: Tensor
    quadratic: Tensor
    linear: Tensor

    @property
    def is_gram(self) -> bool:
        """Whether the norm is in the Gram form."""
        return self.quadratic.dim() == 3


def gram_pays(pool: TextConditionedPool, segments: int) -> bool:
    """Whether the Gram form is the cheaper one: its vectors `a` of a pair are shorter than the mixed values `p`."""
    return pool.heads * segments < pool.out.in_features


def moved_texts(unit: Tensor, weight: Tensor, heads: int) -> Tensor:
    """W' t by head: texts of unit norm (..., D) to (..., H, D / H)."""
    return (unit @ weight).unflatten(-1, (heads, -1))


def pooled_norm(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """W' W and W' b of the output projection, (D, D) and (D,)."""
    return weight.T @ weight, weight.T @ bias


def gram_norm(value: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """V V' and V b of each image: values (b, N, H, e) to (b, H N, H N) and (b, H N)."""
    maps = weight.unflatten(1, value.shape[2:])
    mapped = torch.einsum("bnhe,ohe->bhno", value, maps).flatten(1, 2)  # (b, H N, D)
    return mapped @ mapped.transpose(1, 2), mapped @ bias


def pair_products(texts: PairTexts, images: PairImages) -> tuple[Tensor, Tensor, Tensor]:
    """What the products u . t and |u|^2 of all pairs are made of.

    Returns:
        Attention, (b, Q, H, N) in the Gram form and (b, H, Q, N) in the pooled form; `a` or `p`, (b, Q, H N) or
        (b, Q, D); and what its product with `t` is taken against, of the same shape, or (Q, D).
    """
    query, moved, _ = texts
    key, value, *_ = images
    asked = "qhe" if query.dim() == 3 else "bqhe"
    segments = value.shape[1]
    if images.is_gram:
        attention = torch.einsum(f"{asked},bnhe->bqhn", query, key).softmax(-1)[..., :segments]
        return attention, attention.flatten(2), torch.einsum(f"{asked},bnhe->bqhn", moved, value).flatten(2)
    attention = torch.einsum(f"{asked},bnhe->bhqn", query, key).softmax(-1)[..., :segments]
    return attention, torch.einsum("bhqn,bnhe->bqhe", attention, value).flatten(2), moved.flatten(-2)
