"""The model's superpixels beside a plain grid and SLIC: how well they follow objects, and what they cost (B.1)."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from caft.data.sets import ReferringSet
from caft.eval.analysis.curves import Interval
from caft.eval.scores.superpixels import SuperpixelTally, plain_grid
from caft.network.caft import CAFT
from caft.transforms import nearest_pixels, squash

Method = Callable[[Tensor], NDArray[np.integer]]


@dataclass(frozen=True)
class MethodScores:
    """One method: name, scores as of `SuperpixelTally.intervals`, and the median time for one image alone."""

    name: str
    intervals: Mapping[str, Interval | None]
    milliseconds: float

    @property
    def scores(self) -> dict[str, float | None]:
        """As of `SuperpixelTally.scores`."""
        return {key: one.value if one else None for key, one in self.intervals.items()}


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
    out: it comes with no package used here. The first `images` are measured, and the first `cases` of them returned.
    """
    assert model.config.superpixels is not None, "a flat image tower has no superpixels"
    size, cell = model.config.image_size, model.config.superpixels.cell
    chosen = benchmark.images[:images]
    pixels = [squash(image.picture, size) for image in chosen]
    masks = [[nearest_pixels(mask, size, size) for mask in image.masks.values()] for image in chosen]
    scores: list[MethodScores] = []
    maps: dict[str, list[NDArray[np.integer]]] = {}
    for name, method in _methods(model).items():
        method(pixels[0])  # what is set up once is not part of an image's time
        tally, times = SuperpixelTally(cell), []
        maps[name] = []
        for picture, objects in zip(pixels, masks, strict=True):
            start = time.perf_counter()
            labels = method(picture)
            times.append(time.perf_counter() - start)
            tally.add(labels, objects)
            maps[name].append(labels)
        scores.append(MethodScores(name, tally.intervals(), 1000 * float(np.median(times))))
    pictures = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in pixels[:cases]]
    labels_of = [{name: found[number] for name, found in maps.items()} for number in range(len(pictures))]
    return scores, list(map(MethodCase, pictures, labels_of))


def _methods(model: CAFT) -> dict[str, Method]:
    """Each takes an image, uint8 (3, S, S), and gives labels (S, S)."""
    from skimage.segmentation import slic

    assert model.config.superpixels is not None
    size, cell = model.config.image_size, model.config.superpixels.cell
    grid, device = plain_grid(size, cell), model.device

    def learnt(pixels: Tensor) -> NDArray[np.integer]:
        labels: NDArray[np.integer] = model.superpixel_labels(pixels[None].to(device))[0].cpu().numpy()
        return labels

    def clustered(pixels: Tensor) -> NDArray[np.integer]:
        picture = pixels.permute(1, 2, 0).numpy()
        labels: NDArray[np.integer] = slic(picture, n_segments=(size // cell) ** 2, start_label=0)
        return labels

    return {"SFCN, of the model": learnt, "SLIC (scikit-image)": clustered, "plain grid": lambda pixels: grid}
