"""Writes regions with one true and ten false descriptions each, as FG-OVD is published.

The false ones replace one, two or all three of shape, colour and pattern, or describe other scenes.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from caft.data.scenes.captions import phrase
from caft.data.scenes.examples import Example
from caft.data.scenes.grammar import COLOURS, PATTERNS, RANDOM, SHAPES, Scene, SceneObject
from caft.data.scenes.referring import box
from caft.errors import ParamsError

NEGATIVES = 10
# File -> attributes that are replaced: hard, medium, easy; the last takes other scenes' phrases.
FILES = {"1_attributes": 1, "2_attributes": 2, "3_attributes": 3, "shuffle_negatives": None}


def write_regions(folder: Path, examples: list[Example], regions: int, seed: int) -> None:
    """Writes the four files, on the same boxes, and the images below ``coco/val2017``.

    Args:
        folder: Where to; made here.
        examples: Scenes to draw boxes from.
        regions: Boxes a file.
        seed: Draws boxes and false descriptions.

    Raises:
        ParamsError: The scenes show fewer objects than `regions`.
    """
    objects = [(number, index) for number, example in enumerate(examples) for index in example.visible]
    if regions > len(objects):
        raise ParamsError(
            f"corpus.scenes.regions = {regions}: the {len(examples)} evaluation images show {len(objects)} objects; "
            f"lower it to {len(objects)} or less, or raise corpus.scenes.evaluation_images"
        )
    rng = np.random.default_rng((seed, RANDOM))
    chosen = sorted(objects[position] for position in rng.permutation(len(objects))[:regions])
    images_folder = folder / "coco" / "val2017"
    images_folder.mkdir(parents=True)
    images = []
    for number in sorted({number for number, _ in chosen}):
        name = f"val2017/{number + 1:012d}.jpg"
        (folder / "coco" / name).write_bytes(examples[number].jpeg)
        height, width = examples[number].rendering.labels.shape
        images.append({"id": number + 1, "file_name": name, "height": height, "width": width})
    for file, replaced in FILES.items():
        annotations, categories = _annotate(examples, chosen, replaced, rng)
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{file}.json").write_text(json.dumps(content), encoding="utf-8")


def _annotate(
    examples: list[Example], chosen: list[tuple[int, int]], replaced: int | None, rng: np.random.Generator
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns annotations and categories of one file; a category is one description."""
    ids: dict[str, int] = {}
    annotations: list[dict[str, Any]] = []
    for number, index in chosen:
        scene = examples[number].scene
        if replaced is None:
            negatives = unrelated(scene, [other.scene for other in examples], rng)
        else:
            negatives = altered(scene, index, replaced, rng)
        positive = phrase(scene.objects[index])
        mask = examples[number].mask(index)
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": number + 1,
                "bbox": box(mask),
                "area": int(mask.sum()),
                "category_id": ids.setdefault(positive, len(ids) + 1),
                "neg_category_ids": [ids.setdefault(text, len(ids) + 1) for text in negatives],
            }
        )
    return annotations, [{"id": number, "name": text} for text, number in ids.items()]


def altered(scene: Scene, index: int, replaced: int, rng: np.random.Generator) -> list[str]:
    """Returns ten different phrases with `replaced` of shape, colour and pattern of an object wrong.

    None describes another object of the scene.
    """
    truth = scene.objects[index]
    taken = {_kind(item) for item in scene.objects}
    candidates = [
        kind
        for kind in itertools.product(SHAPES, COLOURS, PATTERNS)
        if sum(a != b for a, b in zip(kind, _kind(truth), strict=True)) == replaced and kind not in taken
    ]
    drawn = (candidates[position] for position in rng.permutation(len(candidates))[:NEGATIVES])
    return [phrase(replace(truth, shape=shape, colour=colour, pattern=pattern)) for shape, colour, pattern in drawn]


def unrelated(scene: Scene, scenes: list[Scene], rng: np.random.Generator) -> list[str]:
    """Returns ten different phrases from other scenes that describe nothing in `scene`.

    Fewer if the other scenes have no ten.
    """
    taken = {_kind(item) for item in scene.objects}
    phrases = sorted({phrase(item) for other in scenes for item in other.objects if _kind(item) not in taken})
    return [phrases[position] for position in rng.permutation(len(phrases))[:NEGATIVES]]


def _kind(item: SceneObject) -> tuple[str, str, str]:
    return item.shape, item.colour, item.pattern
