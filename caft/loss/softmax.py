"""The softmax variant of the losses: cross-entropy in place of independent pairs.

A softmax sees differences of logits only, so it has no bias.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from caft.loss.labels import Pairs
from caft.network.text_pool import TextConditionedPool, attend

# Pairs of an image and a text whose pooled features are held at once.
_PAIRS_AT_ONCE = 16384


def cross_entropy(logits: Tensor, positive: Tensor) -> Tensor:
    """Sum over rows of the cross-entropy whose target is spread evenly over the row's positives.

    Args:
        logits: (R, C).
        positive: True for a pair that belongs together, (R, C); at least one in each row.

    Returns:
        A scalar, float32 or wider; the caller divides.
    """
    shares = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1)
    targets = positive.to(shares.dtype) / positive.sum(1, keepdim=True)
    return -(targets * shares).sum()


def softmax_pair_sum(pairs: Pairs, pool: TextConditionedPool, scale: Tensor) -> Tensor:
    """Each image among the texts that it is compared with, conditioned on each of them, summed over images.

    The other direction, a text among images, would need every pair of them conditioned, so it is left out.

    Returns:
        A scalar, float32 or wider; the caller divides. `scale` is the factor of the cosine, exponentiated.
    """
    tokens, texts, positive, index = pairs
    key, value = pool.project_tokens(tokens)
    query = pool.project_queries(texts)

    def rows(key: Tensor, value: Tensor, query: Tensor, texts: Tensor, scale: Tensor, part: slice) -> Tensor:
        if index is not None:
            query, texts = query[index[part]], texts[index[part]]
        pooled = pool.out(attend(query, key[part], value[part])[0])  # (b, Q, D)
        wide = torch.promote_types(pooled.dtype, torch.float32)
        cosines = (F.normalize(pooled.to(wide), dim=-1) * F.normalize(texts.to(wide), dim=-1)).sum(-1)
        return cross_entropy(scale * cosines, positive[part])

    step = max(1, _PAIRS_AT_ONCE // positive.shape[1])
    total = torch.zeros((), device=tokens.device)
    for start in range(0, len(tokens), step):
        part = slice(start, start + step)
        total = total + checkpoint(rows, key, value, query, texts, scale, part, use_reentrant=False)
    return total
