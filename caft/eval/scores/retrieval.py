"""Recall at k (R@1, R@5, R@10) on a matrix of scores, with ties counted against the model."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Rows compared at once: bounds the scores of 10,000 texts to 20 MB.
_ROWS = 512


class Ranking(NamedTuple):
    """Where the matches came; 0 is first, and ties count against them."""

    images: NDArray[np.int64]  # rank of each image's best text, (images,)
    texts: NDArray[np.int64]  # rank of each text's image, (texts,)
    tied_images: int  # images that have a wrong candidate which scores exactly as the match
    tied_texts: int  # texts that have one

    @property
    def tied(self) -> int:
        """Tied queries, images and texts together."""
        return self.tied_images + self.tied_texts


def recall_at_k(scores: ArrayLike, truth: ArrayLike | None = None, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Returns the share of queries whose match is among the first k, in both directions.

    The rank of a match is the number of wrong candidates that score at least as much, so a model that gives every
    candidate the same score gets zero. With several captions an image, an image query counts when its best caption is
    among the first k (the others do not compete with it); each caption is a query of its own.

    For two images and the captions a, b (of image 0) and c (of image 1)::

        recall_at_k([[.9, .1, .5],
                     [.2, .3, .4]], truth=[0, 0, 1], ks=(1,))
        # images: a beats c; c beats a and b                      -> i2t_r1 = 100
        # captions: a finds 0; b finds 1 (wrong); c finds 0 (wrong) -> t2i_r1 = 33.3

    Args:
        scores: Larger is better, (images, texts).
        truth: Image of each text, (texts,); None: text j belongs to image j.
        ks: The k of R@k.

    Returns:
        Percent by `i2t_r<k>` (an image looks for its text) and `t2i_r<k>`.

    Raises:
        ValueError: Shapes do not fit, a score is NaN, or an image has no text.
    """
    return recalls(rank(scores, truth), ks)


def recalls(ranking: Ranking, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Returns the recalls of `recall_at_k`, in percent, of a ranking."""
    return {
        f"{direction}_r{k}": 100.0 * float(np.mean(ranks < k))
        for direction, ranks in (("i2t", ranking.images), ("t2i", ranking.texts))
        for k in ks
    }


def rank(scores: ArrayLike, truth: ArrayLike | None = None) -> Ranking:
    """Ranks the matches in a matrix; arguments and errors are those of `recall_at_k`."""
    matrix = np.asarray(scores)
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(f"scores: expected (images, texts) with at least one of each, found shape {matrix.shape}")
    return rank_rows(lambda rows: matrix[rows], len(matrix), matrix.shape[1], truth)


def rank_rows(
    rows: Callable[[slice], NDArray[np.floating]], images: int, texts: int, truth: ArrayLike | None = None
) -> Ranking:
    """Ranks the matches in a matrix that is never whole.

    Args:
        rows: Gives the scores of a range of images, (rows, texts), the same each time: it is asked twice.
        images: Number of images.
        texts: Number of texts.
        truth: Image of each text, (texts,); None: text j belongs to image j.

    Raises:
        ValueError: The truth does not fit, a score is NaN, or an image has no text.
    """
    owner = _checked_truth(images, texts, truth)
    blocks = [slice(first, min(first + _ROWS, images)) for first in range(0, images, _ROWS)]
    own, bad = np.empty(texts, np.float64), 0
    for block in blocks:
        scores = rows(block)
        bad += int(np.isnan(scores).sum())
        mine = np.flatnonzero((owner >= block.start) & (owner < block.stop))
        own[mine] = scores[owner[mine] - block.start, mine]
    if bad:
        raise ValueError(f"scores: {bad} of {images * texts} are NaN")
    best = np.full(images, -np.inf)
    np.maximum.at(best, owner, own)
    image_ranks, text_ranks = np.empty(images, np.int64), np.zeros(texts, np.int64)
    tied_images, tied_texts = 0, np.zeros(texts, bool)
    for block in blocks:
        scores = rows(block)
        other = owner[None] != np.arange(block.start, block.stop)[:, None]  # (rows, texts)
        image_ranks[block] = ((scores >= best[block, None]) & other).sum(1)
        text_ranks += ((scores >= own[None]) & other).sum(0)
        # A match at minus infinity was left out of the candidates; others that were tie with nothing.
        tied_images += int(((scores == best[block, None]) & other & (best[block, None] > -np.inf)).any(1).sum())
        tied_texts |= ((scores == own[None]) & other & (own > -np.inf)).any(0)
    return Ranking(image_ranks, text_ranks, tied_images, int(tied_texts.sum()))


def _checked_truth(images: int, texts: int, truth: ArrayLike | None) -> NDArray[np.int64]:
    if truth is None:
        if images != texts:
            raise ValueError(f"scores: {images} images and {texts} texts; give truth, the image of each text")
        return np.arange(texts)
    owner = np.asarray(truth)
    if owner.shape != (texts,):
        raise ValueError(f"truth: expected one image for each of {texts} texts, found shape {owner.shape}")
    if not np.issubdtype(owner.dtype, np.integer) or owner.min() < 0 or owner.max() >= images:
        raise ValueError(f"truth: expected integers from 0 to {images - 1}")
    if without := sorted(set(range(images)) - set(owner.tolist())):
        raise ValueError(f"truth: {len(without)} images have no text, the first is {without[0]}")
    return owner.astype(np.int64)
