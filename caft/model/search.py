"""The best images for one caption by CAFT++, proved so without the part score of every image.

A part cosine is at most 1, so an image's whole score says what it can still reach. Images are scored in the falling order
of that, block after block, until the k-th best exceeds what the next one can reach: then no image left is among the first
k. Preparing an image's segments is nearly all of what one caption costs, so no sharper bound that needs them would pay.

Rounding. In float32 a part cosine is taken to be within `ERROR` of its value (a millionth is usual; heads that cancel to
a fiftieth of their lengths reach it). What may be among the first k by that is scored again in float64 and rounded once. So
the order is that of the exact scores, and equal pictures tie; the first of them comes first.
"""

import logging

import torch
from torch import Tensor

from caft.model.part_chunks import PairCosines
from caft.model.protocols import RetrievalNetwork
from caft.model.scores import blend, part_scores, whole_scores

logger = logging.getLogger(__name__)

ERROR = 2e-3  # of a cosine in float32
LEAST = 128  # images, and four times k: among fewer, leaving some out gains nothing
_BLOCK = 32  # images scored at first; each block after it is larger by a half


@torch.no_grad()
def best_images(
    network: RetrievalNetwork, whole: Tensor, part: Tensor, caption: Tensor, chunks: Tensor, k: int, weight: float
) -> tuple[Tensor, Tensor, int]:
    """The k images with the largest blend of logits, best first.

    Args:
        network: The model, with a part level.
        whole: Whole-level features of the images, (B, D).
        part: Segments of the images, (B, N, D).
        caption: Whole-level feature of the caption, (1, D).
        chunks: Features of its chunks, (1, C, D).
        k: How many, from 1; at most B are returned.
        weight: Of the part score, in [0, 1].

    Returns:
        Numbers of the images (k,), their scores (k,), and how many images' part scores were computed.
    """
    assert network.pool is not None
    logits, k = whole_scores(network, whole, caption)[:, 0], min(k, len(whole))
    scale, bias = (number.cpu() for number in network.temperature("part"))
    reach = blend(network, logits, scale.exp() + bias, weight)
    order = reach.argsort(descending=True, stable=True)
    scores = torch.full((len(whole),), -torch.inf)
    tolerance = weight * float(scale.exp()) * ERROR
    done, block = 0, max(_BLOCK, 2 * k)
    while done < len(order):
        if done >= k and scores.topk(k).values[-1] > reach[order[done]] + 2 * tolerance:
            break
        rows = order[done : done + block]
        found = part_scores(network, part[rows], chunks)[:, 0]
        scores[rows] = blend(network, logits[rows], found, weight)
        done, block = done + len(rows), block + block // 2
    if weight > 0:
        near = (scores >= scores.topk(k).values[-1] - 2 * tolerance).nonzero()[:, 0]
        single = PairCosines(network.pool)
        exact = torch.cat([single.of(part[row], chunks) for row in near])
        scores.fill_(-torch.inf)
        scores[near] = blend(network, logits[near], scale.exp() * exact + bias, weight)
    logger.info("the parts of %d of %d pictures were scored, which proves the order", done, len(order))
    best = scores.argsort(descending=True, stable=True)[:k]
    return best, scores[best], done
