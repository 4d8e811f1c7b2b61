"""How well superpixels follow objects, by masks that no training saw."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_opening

from caft.data.sets import ReferringSet
from caft.eval.analysis.curves import Interval, over_queries
from caft.eval.analysis.intervals import resampled_images
from caft.network.vision.superpixels import SFCN, hard_labels
from caft.progress import track
from caft.transforms import nearest_pixels, squash

SCORES = ("oracle_miou", "grid_oracle_miou", "boundary_recall", "live")
# Of a tally, with the factor of its unit: shares are in percent.
_SCALES = {"count": 1, "boundary_recall": 100, "achievable_accuracy": 100, "oracle_miou": 100, "thin_recall": 100}


class SuperpixelTally:
    """Mean scores of one superpixel method over images, and their intervals."""

    def __init__(self, cell: int) -> None:
        """Starts empty; `cell` is the side of a superpixel in pixels, about half of which is called thin."""
        self._side = cell // 2 + 1
        # Of each image a row of each score: what is summed, and by how much; their ratio is the score.
        self._found: dict[str, list[tuple[float, float]]] = {key: [] for key in _SCALES}

    def add(self, labels: NDArray[np.integer], objects: Sequence[NDArray[np.bool_]]) -> None:
        """Scores an image by its superpixel of each pixel, (S, S), and the masks of its objects, (S, S) each."""
        truth = np.zeros(labels.shape, int)
        for number, mask in enumerate(objects, start=1):
            truth[mask] = number
        seen = [mask for mask in objects if mask.any()]
        thin = [(thin_parts(mask, self._side), covered_by(labels, mask)) for mask in seen]
        rows = {
            "count": (len(np.unique(labels)), 1),
            "boundary_recall": (boundary_recall(labels, truth), 1),
            "achievable_accuracy": (achievable_accuracy(labels, truth), 1),
            "oracle_miou": (sum(oracle_iou(labels, mask) for mask in seen), len(seen)),
            "thin_recall": (sum(int((part & found).sum()) for part, found in thin), sum(int(p.sum()) for p, _ in thin)),
        }
        for key, row in rows.items():
            self._found[key].append(row)

    def scores(self) -> dict[str, float | None]:
        """Returns means over images (`oracle_miou`: over objects), shares in percent.

        - `count`: superpixels that hold a pixel.
        - `boundary_recall`: boundary pixels of objects with a superpixel boundary within one pixel.
        - `achievable_accuracy`: pixels that are right when each superpixel takes its most frequent object.
        - `oracle_miou`: IoU of the superpixels that lie mostly inside each object.
        - `thin_recall`: pixels of thin parts that those superpixels cover; None where no object has one.
        """
        return {key: None if one is None else one.value for key, one in self.intervals().items()}

    def intervals(self) -> dict[str, Interval | None]:
        """Returns the scores with their intervals: a bootstrap of the images, whose objects stay together."""
        found: dict[str, Interval | None] = {}
        for key, scale in _SCALES.items():
            sums, weights = np.array(self._found[key], np.float64).reshape(-1, 2).T
            if not weights.sum():
                found[key] = None
                continue
            drawn = scale * resampled_images(sums, np.arange(len(sums)), weights)
            found[key] = over_queries(scale * float(sums.sum() / weights.sum()), drawn)
        return found


@torch.no_grad()
def score_superpixels(network: SFCN, size: int, cell: int, benchmark: ReferringSet) -> dict[str, Any]:
    """Scores learnt superpixels on the objects of a set, beside a plain grid of the same size.

    The network is in eval mode on the CPU; images are squashed to `size` pixels, a superpixel's side is `cell` pixels.

    Returns:
        By the keys of `SCORES` with two decimals: means in percent, and of `live` the superpixels that hold a pixel; and
        under `intervals` by the same keys `low` and `high`, the ends of their 95 % intervals.
    """
    learnt, plain, grid = SuperpixelTally(cell), SuperpixelTally(cell), plain_grid(size, cell)
    for image in track(benchmark.images, "images"):
        pixels = squash(image.picture, size)[None]
        labels = hard_labels(network(pixels.float() / 255), cell)[0].numpy()
        objects = [nearest_pixels(mask, size, size) for mask in image.masks.values()]
        learnt.add(labels, objects)
        plain.add(grid, objects)
    found, bound = learnt.intervals(), plain.intervals()["oracle_miou"]
    values = (found["oracle_miou"], bound, found["boundary_recall"], found["count"])
    known = {key: value.rounded() for key, value in zip(SCORES, values, strict=True) if value is not None}
    ends = {key: {"low": value["low"], "high": value["high"]} for key, value in known.items()}
    return {**{key: known[key]["value"] if key in known else None for key in SCORES}, "intervals": ends}


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
