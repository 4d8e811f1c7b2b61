"""Single cases for a person to look at: what a query retrieves, where a sentence looks, how an image is grouped.

Cases are taken at even distances through a set, not chosen by how well they came out.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from caft.data.benchmarks import ReferringSet, RetrievalSet
from caft.data.transforms import open_image
from caft.eval.features import encode_captions, encode_images, encode_pictures, encode_texts
from caft.eval.referring import attention_maps, iou, otsu_mask
from caft.eval.similarity import blend, part_scores, whole_scores
from caft.model import CAFT
from caft.params import EvaluationParams
from caft.text.sentences import split

# Retrieval examples look among the first pairs of a set only, so that a report of 10,000 pairs stays a matter of
# seconds.
POOL = 512


@dataclass(frozen=True)
class Retrieved:
    """A query and its best candidates.

    Attributes:
        query: Index of the query; the right candidate has the same.
        best: Indices of the best candidates, best first.
        rank: Place of the right candidate, from 1; ties count against it.
    """

    query: int
    best: list[int]
    rank: int


@dataclass(frozen=True)
class Look:
    """An image and where texts look in it: a map (height, width) for each text."""

    image: Image.Image
    texts: list[str]
    maps: list[NDArray[np.float32]]


@dataclass(frozen=True)
class Segmented:
    """An expression's map, predicted mask and truth, all (height, width), with their IoU in [0, 1]."""

    image: Image.Image
    text: str
    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    iou: float


@dataclass(frozen=True)
class Nested:
    """An image with its label maps (S, S), fine to coarse: superpixels, then each grouping."""

    image: Image.Image
    levels: list[NDArray[np.integer]]


def spread(total: int, count: int) -> list[int]:
    """Returns up to `count` indices at even distances, from 0 up to `total`."""
    count = min(count, total)
    return [number * total // count for number in range(count)]


def retrieved(
    model: CAFT, benchmark: RetrievalSet, settings: EvaluationParams, count: int
) -> tuple[list[Retrieved], list[Retrieved]]:
    """Returns examples of texts that look for images, and of images that look for texts.

    Args:
        model: The model.
        benchmark: The set, of which the first `POOL` pairs take part.
        settings: The first weight and the space of the blended score, and the batch.
        count: Examples of each kind.
    """
    images, captions = benchmark.images[:POOL], benchmark.captions[:POOL]
    whole, part = encode_images(model, images, settings.batch)
    texts = encode_captions(model, captions, settings.batch)
    scores = whole_scores(model, whole, texts.whole)
    if part is not None and texts.parts is not None:
        part_score = part_scores(model, part, texts.parts)
        scores = blend(model, scores, part_score, settings.blend[0], settings.blend_space)
    queries = spread(len(images), count)
    return [_best(scores.T, query) for query in queries], [_best(scores, query) for query in queries]


def _best(scores: Tensor, query: int) -> Retrieved:
    row = scores[query]
    return Retrieved(query, row.argsort(descending=True, stable=True)[:5].tolist(), int((row >= row[query]).sum()))


def looks(model: CAFT, benchmark: RetrievalSet, settings: EvaluationParams, count: int, sentences: int) -> list[Look]:
    """Returns where each sentence of a long caption looks in its image; up to `sentences` of a caption."""
    found = []
    for index in spread(len(benchmark.images), count):
        image = open_image(benchmark.images[index])
        texts = split(benchmark.captions[index], model.card["splitter"])[:sentences]
        features = next(encode_pictures(model, [benchmark.images[index]], [image.size[::-1]], 1))
        maps = attention_maps(
            model, features, encode_texts(model, texts, settings.batch), image.size[::-1], settings.membership
        )
        found.append(Look(image, texts, list(maps)))
    return found


def segmented(model: CAFT, benchmark: ReferringSet, settings: EvaluationParams, count: int) -> list[Segmented]:
    """Returns expressions with their masks; the expressions of one image follow each other."""
    places = [(image, expression) for image in benchmark.images for expression in image.expressions]
    found = []
    for index in spread(len(places), count):
        annotated, expression = places[index]
        size = (annotated.height, annotated.width)
        features = next(encode_pictures(model, [annotated.path], [size], 1))
        values = attention_maps(
            model, features, encode_texts(model, [expression.text], settings.batch), size, settings.membership
        )[0]
        mask, truth = otsu_mask(values), annotated.masks[expression.annotation]
        image = open_image(annotated.path)
        found.append(Segmented(image, expression.text, values, mask, truth, iou(mask, truth)))
    return found


def nested(model: CAFT, paths: list[Path], count: int) -> list[Nested]:
    """Returns the superpixels and groupings of images."""
    found = []
    for index in spread(len(paths), count):
        image = open_image(paths[index])
        features = next(encode_pictures(model, [paths[index]], [image.size[::-1]], 1))
        levels = [features.labels, *model.segments(features)]
        found.append(Nested(image, [level[0].cpu().numpy() for level in levels]))
    return found
