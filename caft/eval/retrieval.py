"""Recall at k on a matrix of scores."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def recall_at_k(scores: ArrayLike, truth: ArrayLike | None = None, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Share of queries whose truth is among the k best, in percent.

    A competitor that scores the same as the truth counts as better, so a model that gives everything one score gets 0.
    For example, with scores [[2, 1], [3, 1]] image 0 finds its text, image 1 does not; text 0 prefers image 1, and
    text 1 sees a tie: i2t_r1 is 50 and t2i_r1 is 0.

    Args:
        scores: Of each image with each text, (images, texts).
        truth: Image of each text, (texts,); None when text i belongs to image i. An image with several texts counts
            as a hit when the best of them is among the k best texts.
        ks: Depths.

    Returns:
        `i2t_r1`, `t2i_r1` and so on.

    Raises:
        ValueError: Shapes do not fit, an image has no text, or a score is NaN.
    """
    matrix, owners = _checked(scores, truth)
    text_ranks, image_ranks = _ranks(matrix, owners)
    result = {f"i2t_r{k}": 100.0 * float(np.mean(image_ranks < k)) for k in ks}
    return result | {f"t2i_r{k}": 100.0 * float(np.mean(text_ranks < k)) for k in ks}


def tied_rows(scores: ArrayLike, truth: ArrayLike | None = None) -> int:
    """Number of queries, of both directions, in which a competitor ties with the truth."""
    matrix, owners = _checked(scores, truth)
    own = matrix[owners, np.arange(matrix.shape[1])]
    ties = int(((matrix == own).sum(0) > 1).sum())
    for image in range(matrix.shape[0]):
        mine = owners == image
        ties += bool((matrix[image, ~mine] == matrix[image, mine].max()).any())
    return ties


def _checked(scores: ArrayLike, truth: ArrayLike | None) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
    matrix = np.asarray(scores)
    if matrix.ndim != 2:
        raise ValueError(f"scores have the shape {matrix.shape}, expected (images, texts)")
    if np.isnan(matrix).any():
        raise ValueError(f"{int(np.isnan(matrix).sum())} scores are NaN")
    if truth is None and matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{matrix.shape[0]} images and {matrix.shape[1]} texts: say which image each text belongs to")
    owners = np.arange(matrix.shape[1]) if truth is None else np.asarray(truth)
    if owners.shape != (matrix.shape[1],):
        raise ValueError(f"truth has the shape {owners.shape}, expected ({matrix.shape[1]},)")
    if len(np.unique(owners)) != matrix.shape[0]:
        raise ValueError(f"{len(np.unique(owners))} of {matrix.shape[0]} images have a text; each needs one")
    return matrix, owners


def _ranks(matrix: NDArray[np.floating], owners: NDArray[np.integer]) -> tuple[NDArray[np.integer], ...]:
    """Competitors that score at least as much: for each text, and for the best own text of each image."""
    texts = np.arange(matrix.shape[1])
    own = matrix[owners, texts]
    text_ranks = (matrix >= own).sum(0) - 1
    foreign = owners[None] != np.arange(matrix.shape[0])[:, None]  # (images, texts)
    best = np.where(foreign, -np.inf, matrix).max(1, keepdims=True)
    return text_ranks, ((matrix >= best) & foreign).sum(1)
