"""The best images for one caption by CAFT++, proved so without the part score of every image.

A part cosine is at most 1, so an image's whole score says what it can still reach. Images are scored in the falling order
of that, block after block, until the k-th best exceeds what the next one can reach: then no image left is among the first
k. Preparing an image's segments is nearly all of what one caption costs, so no sharper bound that needs them would pay.

Rounding. In float32 a part cosine is taken to be within `ERROR` of its value (a millionth is usual; heads that cancel to
a fiftieth of their lengths reach it). What may be among the first k by that is scored again in float64 and rounded once. So
the order is that of the exact scores, and equal pictures tie; the first of them comes first.

Features on disk are read block by block. Where storing has rounded segments, the order is that of what is stored; pictures
are left out only if they could not be among the first k with the segments as they were before either, and how many of those
that were not chosen could is logged.
"""

import logging

import torch
from torch import Tensor

from caft.model.part_chunks import PairCosines
from caft.model.protocols import RetrievalNetwork, Rows
from caft.model.scores import blend, part_scores, whole_scores

logger = logging.getLogger(__name__)

ERROR = 2e-3  # of a cosine in float32
LEAST = 128  # images, and four times k: among fewer, leaving some out gains nothing
_BLOCK = 32  # images scored at first; each block after it is larger by a half
# At a time, however many images there are: numbers of the segments in a block, and images whose whole score is computed.
_NUMBERS = 2**22
_TILE = 2**15


@torch.no_grad()
def best_images(
    network: RetrievalNetwork,
    whole: Rows,
    part: Rows,
    caption: Tensor,
    chunks: Tensor,
    k: int,
    weight: float,
    slack: float = 0.0,
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
        slack: By how much storing the segments may have moved a part cosine.

    Returns:
        Numbers of the images (k,), their scores (k,), and how many images' part scores were computed.
    """
    assert network.pool is not None
    tiles = [slice(first, first + _TILE) for first in range(0, len(whole), _TILE)]
    logits, k = torch.cat([whole_scores(network, whole[tile], caption)[:, 0] for tile in tiles]), min(k, len(whole))
    scale, bias = (number.cpu() for number in network.temperature("part"))
    reach = blend(network, logits, scale.exp() + bias, weight)
    order = reach.argsort(descending=True, stable=True)
    scores = torch.full((len(whole),), -torch.inf)
    tolerance, moved = (weight * float(scale.exp()) * error for error in (ERROR, slack))
    most = max(1, _NUMBERS // part.shape[1:].numel())
    done, block = 0, min(max(_BLOCK, 2 * k), most)
    while done < len(order):
        if done >= k and scores.topk(k).values[-1] > reach[order[done]] + 2 * tolerance + moved:
            break
        rows = order[done : done + block]
        found = part_scores(network, part[rows], chunks)[:, 0]
        scores[rows] = blend(network, logits[rows], found, weight)
        done, block = done + len(rows), min(block + block // 2, most)
    if weight > 0:
        last = scores.topk(k).values[-1]
        near = (scores >= last - 2 * tolerance).nonzero()[:, 0]
        rivals = int((scores >= last - 2 * (tolerance + moved)).sum()) - k
        # Row by row, as sums by a product depend on where a row stands.
        one, other = (number.cpu() for number in network.temperature("whole"))
        cosines = (whole[near].cpu().double() * caption.cpu().double()).sum(-1)
        logits[near] = (one.exp() * cosines + other).float()
        single = PairCosines(network.pool)
        exact = torch.cat([single.of(part[row][0], chunks) for row in near.split(1)])
        scores.fill_(-torch.inf)
        scores[near] = blend(network, logits[near], scale.exp() * exact + bias, weight)
        if moved and rivals:
            logger.info(
                "features are kept in half precision, which may move a score by %.3f: of the pictures that were not chosen, "
                "%d are as near to the last one as that", moved, rivals,
            )  # fmt: skip
    logger.info("the parts of %d of %d pictures were scored, which proves the order", done, len(order))
    best = scores.argsort(descending=True, stable=True)[:k]
    return best, scores[best], done
