"""Recall at k on a matrix of scores, with ties counted against the model."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Rows compared at once: bounds the boolean matrix of a 10,000 x 10,000 set to 20 MB.
_ROWS = 2048


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
    image_ranks, text_ranks = ranks(scores, truth)
    found = {}
    for direction, rank in (("i2t", image_ranks), ("t2i", text_ranks)):
        for k in ks:
            found[f"{direction}_r{k}"] = 100.0 * float(np.mean(rank < k))
    return found


def ranks(scores: ArrayLike, truth: ArrayLike | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the rank of each image's best text and of each text's image; 0 is first, ties count against it.

    Arguments and errors are those of `recall_at_k`.
    """
    matrix, owner = _checked(scores, truth)
    own = _own_scores(matrix, owner)
    best = _best_of_image(own, owner, len(matrix))
    image_ranks = np.empty(matrix.shape[0], np.int64)
    text_ranks = np.zeros(matrix.shape[1], np.int64)
    for first in range(0, len(matrix), _ROWS):
        rows = slice(first, first + _ROWS)
        mine = owner[None] == np.arange(len(matrix))[rows, None]  # (rows, texts)
        image_ranks[rows] = ((matrix[rows] >= best[rows, None]) & ~mine).sum(1)
        text_ranks += ((matrix[rows] >= own[None]) & ~mine).sum(0)
    return image_ranks, text_ranks


def tied_rows(scores: ArrayLike, truth: ArrayLike | None = None) -> int:
    """Returns how many queries, images and texts together, have a wrong candidate that scores exactly as the match.

    At zero, no recall depends on how ties are counted. Arguments and errors are those of `recall_at_k`.
    """
    matrix, owner = _checked(scores, truth)
    own = _own_scores(matrix, owner)
    best = _best_of_image(own, owner, len(matrix))
    images = 0
    texts = np.zeros(matrix.shape[1], bool)
    for first in range(0, len(matrix), _ROWS):
        rows = slice(first, first + _ROWS)
        other = owner[None] != np.arange(len(matrix))[rows, None]
        images += int(((matrix[rows] == best[rows, None]) & other).any(1).sum())
        texts |= ((matrix[rows] == own[None]) & other).any(0)
    return images + int(texts.sum())


def _checked(scores: ArrayLike, truth: ArrayLike | None) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    matrix = np.asarray(scores)
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(f"scores: expected (images, texts) with at least one of each, found shape {matrix.shape}")
    if np.isnan(matrix).any():
        raise ValueError(f"scores: {int(np.isnan(matrix).sum())} of {matrix.size} are NaN")
    images, texts = matrix.shape
    if truth is None:
        if images != texts:
            raise ValueError(f"scores: {images} images and {texts} texts; give truth, the image of each text")
        return matrix, np.arange(texts)
    owner = np.asarray(truth)
    if owner.shape != (texts,):
        raise ValueError(f"truth: expected one image for each of {texts} texts, found shape {owner.shape}")
    if not np.issubdtype(owner.dtype, np.integer) or owner.min() < 0 or owner.max() >= images:
        raise ValueError(f"truth: expected integers from 0 to {images - 1}")
    if without := sorted(set(range(images)) - set(owner.tolist())):
        raise ValueError(f"truth: {len(without)} images have no text, the first is {without[0]}")
    return matrix, owner.astype(np.int64)


def _own_scores(matrix: NDArray[np.floating], owner: NDArray[np.int64]) -> NDArray[np.floating]:
    """Score of each text with its own image, (texts,)."""
    own: NDArray[np.floating] = matrix[owner, np.arange(len(owner))]
    return own


def _best_of_image(own: NDArray[np.floating], owner: NDArray[np.int64], images: int) -> NDArray[np.floating]:
    """Best score of each image with one of its texts, (images,)."""
    best = np.full(images, -np.inf, own.dtype if np.issubdtype(own.dtype, np.floating) else np.float64)
    np.maximum.at(best, owner, own)
    return best
