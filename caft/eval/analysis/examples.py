"""Single cases for a person to look at: what a query retrieves, where a sentence looks, how an image is grouped.

Cases with a score are the best, the middle and the worst by it; others lie at even distances through their set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from caft.captions.sentences import split
from caft.data.sets import Expression, ReferringImage, ReferringSet, RetrievalSet
from caft.eval.scores.features import encode_pictures
from caft.eval.scores.referring import iou
from caft.eval.scores.retrieval_sets import level_scores
from caft.model.encoding import encode_captions, encode_cropped, encode_sub_captions
from caft.model.maps import attention_maps, ground, label_maps
from caft.model.model import Model
from caft.model.otsu import otsu_mask
from caft.model.protocols import RetrievalModel
from caft.model.scores import blend
from caft.network.caft import CAFT
from caft.params.evaluation import EvaluationParams, Membership
from caft.transforms import open_image

# Retrieval examples look among the first pairs of a set only, so that a report of 10,000 pairs stays a matter of
# seconds.
POOL = 512
KINDS = ("best", "median", "worst")


@dataclass(frozen=True)
class Answers:
    """What one score answers to a query."""

    best: list[int]  # indices of the best candidates, best first
    rank: int  # place of the right candidate, from 1; ties count against it


@dataclass(frozen=True)
class Retrieved:
    """A query and what two scores find for it."""

    query: int  # its index; the right candidate has the same
    kind: str  # one of `KINDS`, by how far the right candidate leads under CAFT++
    blended: Answers  # by the score CAFT++
    whole: Answers  # by the whole score alone, the baseline


@dataclass(frozen=True)
class Look:
    """An image and where texts look in it: a map (height, width) for each text."""

    image: Image.Image
    texts: list[str]
    maps: list[NDArray[np.float32]]


@dataclass(frozen=True)
class ScoredExpression:
    """An expression of an image with the IoU of its mask, in [0, 1]."""

    image: ReferringImage
    expression: Expression
    iou: float


@dataclass(frozen=True)
class Segmented:
    """An expression's map, predicted mask and truth, all (height, width), with their IoU in [0, 1]; a kind of `KINDS`."""

    kind: str
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
    levels: list[NDArray[np.int64]]


def spread(total: int, count: int) -> list[int]:
    """Returns up to `count` indices at even distances, from 0 up to `total`."""
    count = min(count, total)
    return [number * total // count for number in range(count)]


def picks(scores: Sequence[float], each: int) -> list[tuple[str, int]]:
    """Returns the indices of the best (largest), the middle and the worst scores, each with its kind, best first.

    Of a kind there are `each`, or fewer where there are not enough, since no index comes twice.
    """
    order = np.argsort(-np.asarray(scores), kind="stable").tolist()
    each = min(each, len(order))
    middle = (len(order) - each) // 2
    parts = (order[:each], order[middle : middle + each], order[len(order) - each :])
    chosen: dict[int, str] = {}
    for kind, indices in zip(KINDS, parts, strict=True):
        for index in indices:
            chosen.setdefault(index, kind)
    return [(kind, index) for index, kind in chosen.items()]


def retrieved(
    model: RetrievalModel, benchmark: RetrievalSet, settings: EvaluationParams, each: int
) -> tuple[list[Retrieved], list[Retrieved]]:
    """Returns examples, `each` of a kind, of texts that look for images, and of images that look for texts.

    The first `POOL` pairs of the set take part, with the first weight of the settings' blends.
    """
    images, captions = benchmark.images[:POOL], benchmark.captions[:POOL]
    network, encoded = model.network, encode_cropped(model.network, images, settings.batch)
    texts = encode_captions(model, captions, settings.batch)
    scores = level_scores(network, encoded, texts)
    whole = blended = scores["whole"]
    if "part" in scores:
        blended = blend(network, whole, scores["part"], settings.blend[0], settings.blend_space)
    return _cases(blended.T, whole.T, each), _cases(blended, whole, each)


def _cases(blended: Tensor, whole: Tensor, each: int) -> list[Retrieved]:
    """Cases of square score matrices, a row for each query."""
    own = blended.diagonal()
    others = blended.clone().fill_diagonal_(-float("inf")).amax(1) if len(blended) > 1 else own
    return [
        Retrieved(query, kind, _answers(blended, query), _answers(whole, query))
        for kind, query in picks((own - others).tolist(), each)
    ]


def _answers(scores: Tensor, query: int) -> Answers:
    row = scores[query]
    return Answers(row.argsort(descending=True, stable=True)[:5].tolist(), int((row >= row[query]).sum()))


def look(model: CAFT, image: Image.Image, texts: list[str], membership: Membership = "hard") -> Look:
    """Returns where texts look in an RGB image; `membership` as in `CAFT.segment_weights`."""
    return Look(image, texts, list(ground(model, image, texts, membership)))


def looks(model: Model, benchmark: RetrievalSet, count: int, sentences: int, membership: Membership) -> list[Look]:
    """Returns where each sentence of a long caption looks in its image; up to `sentences` of a caption."""
    return [
        look(
            model.network,
            open_image(benchmark.images[index]),
            split(benchmark.captions[index], model.card.splitter)[:sentences],
            membership,
        )
        for index in spread(len(benchmark.images), count)
    ]


def score_examples(
    model: CAFT, benchmark: ReferringSet, batch: int, images: int, membership: Membership
) -> list[ScoredExpression]:
    """Returns every expression of the first `images` images with its IoU."""
    found = []
    chosen = benchmark.images[:images]
    sizes = [(image.height, image.width) for image in chosen]
    pictures = encode_pictures(model, [image.path for image in chosen], sizes, batch)
    for image, size, picture in zip(chosen, sizes, pictures, strict=True):
        texts = encode_sub_captions(model, [expression.text for expression in image.expressions], batch)
        masks = image.masks
        maps = attention_maps(model, picture, texts, size, membership)
        for values, expression in zip(maps, image.expressions, strict=True):
            found.append(ScoredExpression(image, expression, iou(otsu_mask(values), masks[expression.annotation])))
    return found


def segmented(
    model: CAFT, expressions: Sequence[ScoredExpression], each: int, membership: Membership
) -> list[Segmented]:
    """Returns the best, the middle and the worst of scored expressions, with their masks."""
    return [
        segment(model, kind, expressions[index], membership)
        for kind, index in picks([case.iou for case in expressions], each)
    ]


def segment(model: CAFT, kind: str, case: ScoredExpression, membership: Membership) -> Segmented:
    """Returns the map and the mask of a scored expression."""
    seen = look(model, case.image.picture, [case.expression.text], membership)
    mask, truth = otsu_mask(seen.maps[0]), case.image.masks[case.expression.annotation]
    return Segmented(kind, seen.image, case.expression.text, seen.maps[0], mask, truth, case.iou)


def nested(model: CAFT, paths: Sequence[Path], count: int) -> list[Nested]:
    """Returns the superpixels and groupings of images."""
    images = [open_image(paths[index]) for index in spread(len(paths), count)]
    return [Nested(image, label_maps(model, image)) for image in images]
