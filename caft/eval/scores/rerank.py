"""CAFT++ among the best by the whole score alone: faster than all pairs, and approximate.

Each image has the k captions, and each caption the k images, that the whole score puts first; the part score is computed
for these pairs, and a match that is not among them is lost. FLAIR's and the authors' scripts offer the same.

Ties. Every candidate that equals the k-th is kept, so there may be more than k: which of them `topk` would take is chance,
and with those that it drops a match would have fewer rivals. A model that scores all pairs alike has no match among the
first, here as in the exact form.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from caft.eval.scores.retrieval import Ranking, rank_rows
from caft.model.protocols import RetrievalNetwork
from caft.model.scores import blend, some_part_scores


def rerank(
    model: RetrievalNetwork,
    whole: Tensor,
    part: Tensor,
    texts: Tensor,
    k: int,
    weights: Sequence[float],
    space: str,
    truth: ArrayLike | None = None,
) -> list[Ranking]:
    """Ranks the matches by blends, among the k best by the whole score.

    Args:
        model: The model.
        whole: Whole-level logits, (B, Q).
        part: Segments of the images, (B, N, D).
        texts: Chunk features of the captions, (Q, C, D).
        k: Candidates of each query, and those that equal the k-th; all pairs are scored where it reaches both B and Q.
        weights: Of the part score, one for each ranking.
        space: "logit" or "cosine", as in `blend`.
        truth: Image of each caption, (Q,); None: caption j belongs to image j.

    Returns:
        A ranking for each weight. A match that is no candidate comes last.
    """
    images, captions = whole.shape
    of_image = _best(whole, k)
    of_caption = _best(whole.T, k).T
    wanted = [row.nonzero()[:, 0] for row in of_image | of_caption]
    scores = torch.zeros_like(whole)
    for row, asked, found in zip(scores, wanted, some_part_scores(model, part, texts, wanted), strict=True):
        row[asked] = found
    rankings = []
    for weight in weights:

        def rows(candidates: Tensor, weight: float, place: slice) -> NDArray[np.floating]:
            blended = blend(model, whole[place], scores[place], weight, space)
            return blended.masked_fill(~candidates[place], -torch.inf).numpy()

        by_image = rank_rows(partial(rows, of_image, weight), images, captions, truth)
        by_caption = rank_rows(partial(rows, of_caption, weight), images, captions, truth)
        rankings.append(Ranking(by_image.images, by_caption.texts, by_image.tied_images, by_caption.tied_texts))
    return rankings


def _best(scores: Tensor, k: int) -> Tensor:
    """Marks the k largest of each row, and all that equal the least of them, (rows, columns), bool."""
    least = scores.topk(min(k, scores.shape[1]), dim=1).values[:, -1:]
    return ~(scores < least)  # numbers that are none stay in, so that ranking finds them
