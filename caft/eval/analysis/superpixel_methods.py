"""The model's superpixels beside a plain grid and SLIC: how well they follow objects, and what they cost (B.1)."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from caft.data.sets import ReferringSet
from caft.eval.scores.superpixels import (
    achievable_accuracy,
    boundary_recall,
    covered_by,
    oracle_iou,
    squash_mask,
    thin_parts,
)
from caft.network.caft import CAFT
from caft.transforms import open_image, squash

Method = Callable[[Tensor], NDArray[np.integer]]


@dataclass(frozen=True)
class MethodScores:
    """One method; shares in percent.

    Attributes:
        name: Of the method.
        count: Superpixels that hold a pixel, per image.
        boundary_recall: Boundary pixels of objects with a superpixel boundary within one pixel.
        achievable_accuracy: Pixels that are right when each superpixel takes its most frequent object.
        oracle_miou: Of the superpixels that lie mostly inside each object.
        thin_recall: Pixels of thin parts that those superpixels cover; None where no object has one.
        milliseconds: Median for one image, alone.
    """

    name: str
    count: float
    boundary_recall: float
    achievable_accuracy: float
    oracle_miou: float
    thin_recall: float | None
    milliseconds: float


@dataclass(frozen=True)
class MethodCase:
    """An image as the model sees it, and each method's label map (S, S) by name."""

    image: Image.Image
    labels: dict[str, NDArray[np.integer]]


def compare_methods(
    model: CAFT, benchmark: ReferringSet, images: int, cases: int
) -> tuple[list[MethodScores], list[MethodCase]]:
    """Measures each method on the same images, squashed to the model's size.

    Thin parts are those that no square of half a cell and a pixel reaches. SEEDS, which the paper names too, is left
    out: it comes with no package used here.

    Args:
        model: Gives the superpixel network and its cell.
        benchmark: Images with the masks of their objects.
        images: How many to measure, from the set's start.
        cases: How many of them to return for a look.
    """
    assert model.config.superpixels is not None, "a flat image tower has no superpixels"
    size, cell = model.config.image_size, model.config.superpixels.cell
    chosen = benchmark.images[:images]
    pixels = [squash(open_image(image.path), size) for image in chosen]
    masks = [[squash_mask(mask, size) for mask in image.masks.values()] for image in chosen]
    scores, maps = [], {}
    for name, method in _methods(model).items():
        method(pixels[0])  # what is set up once is not part of an image's time
        labels, times = [], []
        for picture in pixels:
            start = time.perf_counter()
            labels.append(method(picture))
            times.append(time.perf_counter() - start)
        scores.append(_scores(name, labels, masks, cell // 2 + 1, 1000 * float(np.median(times))))
        maps[name] = labels
    shown = [
        MethodCase(
            Image.fromarray(pixels[number].permute(1, 2, 0).numpy()), {name: maps[name][number] for name in maps}
        )
        for number in range(min(cases, len(chosen)))
    ]
    return scores, shown


def _methods(model: CAFT) -> dict[str, Method]:
    """Each takes an image, uint8 (3, S, S), and gives labels (S, S)."""
    from skimage.segmentation import slic

    assert model.config.superpixels is not None
    size, cell = model.config.image_size, model.config.superpixels.cell
    places = np.arange(size) // cell
    grid = places[:, None] * (size // cell) + places[None]
    device = model.device

    def learnt(pixels: Tensor) -> NDArray[np.integer]:
        labels: NDArray[np.integer] = model.superpixel_labels(pixels[None].to(device))[0].cpu().numpy()
        return labels

    def clustered(pixels: Tensor) -> NDArray[np.integer]:
        labels: NDArray[np.integer] = slic(
            pixels.permute(1, 2, 0).numpy(), n_segments=(size // cell) ** 2, start_label=0
        )
        return labels

    return {"SFCN, of the model": learnt, "SLIC (scikit-image)": clustered, "plain grid": lambda pixels: grid}


def _scores(
    name: str,
    labels: list[NDArray[np.integer]],
    masks: list[list[NDArray[np.bool_]]],
    thin: int,
    milliseconds: float,
) -> MethodScores:
    recalls, accuracies, ious = [], [], []
    wanted = found = 0
    for label_map, objects in zip(labels, masks, strict=True):
        truth = np.zeros(label_map.shape, int)
        for number, mask in enumerate(objects, start=1):
            truth[mask] = number
            if not mask.any():
                continue
            ious.append(oracle_iou(label_map, mask))
            parts = thin_parts(mask, thin)
            wanted += int(parts.sum())
            found += int((parts & covered_by(label_map, mask)).sum())
        recalls.append(boundary_recall(label_map, truth))
        accuracies.append(achievable_accuracy(label_map, truth))
    return MethodScores(
        name,
        count=float(np.mean([len(np.unique(label_map)) for label_map in labels])),
        boundary_recall=100 * float(np.mean(recalls)),
        achievable_accuracy=100 * float(np.mean(accuracies)),
        oracle_miou=100 * float(np.mean(ious)),
        thin_recall=100 * found / wanted if wanted else None,
        milliseconds=milliseconds,
    )
