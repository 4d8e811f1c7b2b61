"""How well superpixels follow objects, by masks that no training saw."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_opening

from caft.data.sets import ReferringSet
from caft.network.vision.superpixels import SFCN, hard_labels
from caft.progress import track
from caft.transforms import nearest_pixels, squash

SCORES = ("oracle_miou", "grid_oracle_miou", "boundary_recall", "live")


class SuperpixelTally:
    """Mean scores of one superpixel method over images."""

    def __init__(self, cell: int) -> None:
        """Starts empty; `cell` is the side of a superpixel in pixels, about half of which is called thin."""
        self._side = cell // 2 + 1
        self._recalls: list[float] = []
        self._accuracies: list[float] = []
        self._ious: list[float] = []
        self._counts: list[int] = []
        self._thin = np.zeros(2, int)  # pixels of thin parts: covered, all

    def add(self, labels: NDArray[np.integer], objects: Sequence[NDArray[np.bool_]]) -> None:
        """Scores an image by its superpixel of each pixel, (S, S), and the masks of its objects, (S, S) each."""
        truth = np.zeros(labels.shape, int)
        for number, mask in enumerate(objects, start=1):
            truth[mask] = number
            if mask.any():
                self._ious.append(oracle_iou(labels, mask))
                thin = thin_parts(mask, self._side)
                self._thin += (thin & covered_by(labels, mask)).sum(), thin.sum()
        self._recalls.append(boundary_recall(labels, truth))
        self._accuracies.append(achievable_accuracy(labels, truth))
        self._counts.append(len(np.unique(labels)))

    def scores(self) -> dict[str, float | None]:
        """Returns means over images (`oracle_miou`: over objects), shares in percent.

        - `count`: superpixels that hold a pixel.
        - `boundary_recall`: boundary pixels of objects with a superpixel boundary within one pixel.
        - `achievable_accuracy`: pixels that are right when each superpixel takes its most frequent object.
        - `oracle_miou`: IoU of the superpixels that lie mostly inside each object.
        - `thin_recall`: pixels of thin parts that those superpixels cover; None where no object has one.
        """
        found, wanted = self._thin.tolist()
        return {
            "count": float(np.mean(self._counts)),
            "boundary_recall": 100 * float(np.mean(self._recalls)),
            "achievable_accuracy": 100 * float(np.mean(self._accuracies)),
            "oracle_miou": 100 * float(np.mean(self._ious)),
            "thin_recall": 100 * found / wanted if wanted else None,
        }


@torch.no_grad()
def score_superpixels(network: SFCN, size: int, cell: int, benchmark: ReferringSet) -> dict[str, float]:
    """Scores learnt superpixels on the objects of a set, beside a plain grid of the same size.

    The network is in eval mode on the CPU; images are squashed to `size` pixels, a superpixel's side is `cell` pixels.

    Returns:
        By the keys of `SCORES` with two decimals: means in percent, and of `live` the superpixels that hold a pixel.
    """
    learnt, plain, grid = SuperpixelTally(cell), SuperpixelTally(cell), plain_grid(size, cell)
    for image in track(benchmark.images, "images"):
        pixels = squash(image.picture, size)[None]
        labels = hard_labels(network(pixels.float() / 255), cell)[0].numpy()
        objects = [nearest_pixels(mask, size, size) for mask in image.masks.values()]
        learnt.add(labels, objects)
        plain.add(grid, objects)
    found, bound = learnt.scores(), plain.scores()["oracle_miou"]
    values = (found["oracle_miou"], bound, found["boundary_recall"], found["count"])
    return dict(zip(SCORES, (round(float(value or 0), 2) for value in values), strict=True))


def plain_grid(size: int, cell: int) -> NDArray[np.integer]:
    """Returns the labels of square cells, (size, size)."""
    places = np.arange(size) // cell
    labels: NDArray[np.integer] = places[:, None] * (size // cell) + places[None]
    return labels


def oracle_iou(labels: NDArray[np.integer], mask: NDArray[np.bool_]) -> float:
    """IoU of an object (H, W) with the union of the superpixels (H, W) that lie mostly inside it, in [0, 1]."""
    covered = covered_by(labels, mask)
    union = np.logical_or(covered, mask).sum()
    return float(np.logical_and(covered, mask).sum() / union) if union else 1.0


def covered_by(labels: NDArray[np.integer], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns the union of the superpixels that lie mostly inside a mask, (H, W)."""
    sizes = np.bincount(labels.ravel())
    inside = np.bincount(labels.ravel(), weights=mask.ravel(), minlength=len(sizes))
    chosen: NDArray[np.bool_] = (inside > 0.5 * sizes)[labels]
    return chosen


def boundary_recall(labels: NDArray[np.integer], truth: NDArray[np.integer]) -> float:
    """Share of the boundary pixels of objects (H, W) with one of superpixels (H, W) beside them, also across a corner."""
    wanted = _boundary(truth)
    near = binary_dilation(_boundary(labels), np.ones((3, 3)))
    return float(near[wanted].mean()) if wanted.any() else 1.0


def achievable_accuracy(labels: NDArray[np.integer], truth: NDArray[np.integer]) -> float:
    """Share of pixels that are right when each superpixel takes its most frequent object (ASA), in [0, 1].

    The background counts as one object; both maps are (H, W).
    """
    objects = int(truth.max()) + 1
    counts = np.bincount(labels.ravel() * objects + truth.ravel(), minlength=(int(labels.max()) + 1) * objects)
    return float(counts.reshape(-1, objects).max(1).sum() / labels.size)


def thin_parts(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Returns the pixels of a mask (H, W) that no square of `side` pixels inside it reaches: tips, arms, poles.

    The object counts as going on beyond the image's edge.
    """
    reached = binary_opening(np.pad(mask, side, mode="edge"), np.ones((side, side)))
    thin: NDArray[np.bool_] = mask & ~reached[side:-side, side:-side]
    return thin


def _boundary(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels whose right or lower neighbour has another label."""
    boundary = np.zeros(labels.shape, bool)
    boundary[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    boundary[:-1] |= labels[:-1] != labels[1:]
    return boundary
