"""One object asked for by a sentence, by phrases and by a word: how much do masks depend on the length of the query?

The sets of expressions that mean the same objects of the same images are compared; the word is the name of the
object's category, which means all its objects in the image.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from caft.data.sets import ReferringImage, ReferringSet
from caft.eval.analysis.examples import look, picks
from caft.eval.scores.referring import iou
from caft.model.otsu import otsu_mask
from caft.network.caft import CAFT
from caft.params.evaluation import Membership

WORD = "category name"


@dataclass(frozen=True)
class Granularity:
    """Scores of one kind of query over all objects."""

    name: str  # of the set, or `WORD`
    words: float  # in a query, on average
    miou: float  # of the queries, in percent; every object counts the same
    objects: int


@dataclass(frozen=True)
class Asked:
    """An image with the queries for one object, long to short: text, map, mask and truth (height, width)."""

    kind: str
    image: Image.Image
    texts: list[str]
    maps: list[NDArray[np.float32]]
    masks: list[NDArray[np.bool_]]
    truths: list[NDArray[np.bool_]]


def score_granularity(
    model: CAFT, sets: Mapping[str, ReferringSet], images: int, each: int, membership: Membership
) -> tuple[list[Granularity], list[Asked]]:
    """Scores every kind of query on the objects that all sets mean, in the first `images` images of the first set.

    There are `each` examples of each kind: best, median and worst by the mean IoU of an object's queries.

    Returns:
        The scores, longest queries first, and examples; nothing where no object is meant by two kinds of query.
    """
    kinds = _queries(sets, images)
    names = sorted(kinds, key=lambda name: -_mean_words(kinds[name]))
    shared = [key for key in kinds[names[0]] if all(key in kinds[name] for name in names)] if names else []
    if len(names) < 2 or not shared:
        return [], []
    of_image: dict[Path, list[tuple[Path, int]]] = {}
    for key in shared:
        of_image.setdefault(key[0], []).append(key)
    known = {image.path: image for image in next(iter(sets.values())).images}
    ious: dict[tuple[Path, int], list[float]] = {}
    for path, keys in of_image.items():
        masks, picture = known[path].masks, known[path].picture
        texts = list(dict.fromkeys(kinds[name][key][0] for key in keys for name in names))
        mask_of = dict(zip(texts, map(otsu_mask, look(model, picture, texts, membership).maps), strict=True))
        for key in keys:
            ious[key] = [
                iou(mask_of[text], _union(masks, meant)) for text, meant in (kinds[name][key] for name in names)
            ]
    table = [
        Granularity(
            name, _mean_words(kinds[name]), 100 * float(np.mean([found[place] for found in ious.values()])), len(ious)
        )
        for place, name in enumerate(names)
    ]
    keys = list(ious)
    cases = [
        _case(model, kind, known[keys[number][0]], [kinds[name][keys[number]] for name in names], membership)
        for kind, number in picks([float(np.mean(ious[key])) for key in keys], each)
    ]
    return table, cases


Meant = tuple[str, tuple[int, ...]]  # a text, and the ids of the objects that it means


def _queries(sets: Mapping[str, ReferringSet], images: int) -> dict[str, dict[tuple[Path, int], Meant]]:
    """Queries by kind and object (image, annotation id); an object's first expression in each set."""
    kinds: dict[str, dict[tuple[Path, int], Meant]] = {}
    for name, benchmark in sets.items():
        found = kinds.setdefault(name, {})
        for image in benchmark.images[:images]:
            for expression in image.expressions:
                found.setdefault((image.path, expression.annotation), (expression.text, (expression.annotation,)))
    words = {}
    for image in next(iter(sets.values())).images[:images] if sets else []:
        for annotation, category in image.categories.items():
            same = tuple(other for other, name in image.categories.items() if name == category)
            words[image.path, annotation] = (category, same)
    return kinds | {WORD: words} if words else kinds


def _mean_words(queries: Mapping[tuple[Path, int], Meant]) -> float:
    return float(np.mean([len(text.split()) for text, _ in queries.values()]))


def _union(masks: Mapping[int, NDArray[np.bool_]], annotations: tuple[int, ...]) -> NDArray[np.bool_]:
    union: NDArray[np.bool_] = np.any([masks[annotation] for annotation in annotations], axis=0)
    return union


def _case(model: CAFT, kind: str, image: ReferringImage, queries: list[Meant], membership: Membership) -> Asked:
    seen = look(model, image.picture, [text for text, _ in queries], membership)
    masks = image.masks
    return Asked(
        kind,
        seen.image,
        seen.texts,
        seen.maps,
        [otsu_mask(values) for values in seen.maps],
        [_union(masks, meant) for _, meant in queries],
    )
