"""Writes the rendered corpus' sets beyond those of the paper: a composition suite, and classes of every pixel.

`composition` is in the layout of SugarCrepe: a true sentence on how two objects of a scene lie, and a false one, in which a
colour, a shape or the relation is replaced, or the two colours or shapes are swapped. `colours` and `shapes` are in the
layout of ADE20K: what is seen of an object is of the class of its colour or shape, the background is of none.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from caft.data.scenes.captions import ANNOTATORS
from caft.data.scenes.examples import Example
from caft.data.scenes.grammar import COLOURS, RANDOM, SHAPES, Scene, SceneObject, choice

SCENES = 128  # the first of the set `random`, as for the referring sets
# The inverse of each relation between cells.
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
KINDS = ("replace_obj", "replace_att", "replace_rel", "swap_obj", "swap_att")
CLASSES = {"colours": COLOURS, "shapes": SHAPES}


def write_suites(folder: Path, examples: Sequence[Example], seed: int) -> None:
    """Writes `composition`, `colours` and `shapes` into a folder; `seed` draws the sentences."""
    write_composition(folder / "composition", examples[:SCENES], seed)
    for name in CLASSES:
        write_classes(folder / name, examples[:SCENES], name)


# ---- composition


def write_composition(folder: Path, examples: Sequence[Example], seed: int) -> None:
    """Writes `data/<kind>.json`, objects of records by number, and `val2017/`."""
    (folder / "data").mkdir(parents=True)
    (folder / "val2017").mkdir()
    records: dict[str, dict[str, dict[str, str]]] = {kind: {} for kind in KINDS}
    for number, example in enumerate(examples, start=1):
        name = f"{number:012d}.jpg"
        (folder / "val2017" / name).write_bytes(example.jpeg)
        rng = np.random.default_rng((seed, RANDOM, number, len(KINDS)))
        for kind, true, false in sentences(example.scene, rng):
            place = str(len(records[kind]))
            records[kind][place] = {"filename": name, "caption": true, "negative_caption": false}
    for kind, found in records.items():
        (folder / "data" / f"{kind}.json").write_text(json.dumps(found), encoding="utf-8")


def sentences(scene: Scene, rng: np.random.Generator) -> Iterator[tuple[str, str, str]]:
    """Yields kind, true and false sentence on two objects of a scene; of a kind that has no false one, none."""
    first, second = (scene.objects[place] for place in rng.permutation(len(scene.objects))[:2])
    relation = choice(relations(first, second), rng)
    true = say(first, relation, second)
    colours = [colour for colour in COLOURS if colour not in {item.colour for item in scene.objects}]
    shapes = [shape for shape in SHAPES if shape not in {item.shape for item in scene.objects}]
    yield "replace_att", true, say(replace(first, colour=choice(tuple(colours), rng)), relation, second)
    yield "replace_obj", true, say(replace(first, shape=choice(tuple(shapes), rng)), relation, second)
    yield "replace_rel", true, say(first, INVERSE[relation], second)
    for kind, key in (("swap_att", "colour"), ("swap_obj", "shape")):
        one, other = getattr(first, key), getattr(second, key)
        swapped = (replace(first, **{key: other}), replace(second, **{key: one}))
        if one != other and not any(holds(scene, swapped[0], relation, swapped[1])):
            yield kind, true, say(swapped[0], relation, swapped[1])


def relations(first: SceneObject, second: SceneObject) -> tuple[str, ...]:
    """How the first lies to the second, by the rows and columns of cells; at least one."""
    found = []
    if first.column != second.column:
        found.append("left of" if first.column < second.column else "right of")
    if first.row != second.row:
        found.append("above" if first.row < second.row else "below")
    return tuple(found)


def holds(scene: Scene, first: SceneObject, relation: str, second: SceneObject) -> Iterator[bool]:
    """Yields for each pair of the scene's objects of these colours and shapes whether the relation is theirs."""
    for one in scene.objects:
        for other in scene.objects:
            alike = (one.colour, one.shape, other.colour, other.shape) == (
                first.colour, first.shape, second.colour, second.shape,
            )  # fmt: skip
            if alike and one is not other:
                yield relation in relations(one, other)


def say(first: SceneObject, relation: str, second: SceneObject) -> str:
    """A sentence in the words of the first annotator."""
    names = (f"{item.colour} {item.shape}" for item in (first, second))
    return ANNOTATORS["ib"].relation.format(first=next(names), relation=relation, second=next(names))


# ---- classes of pixels


def write_classes(folder: Path, examples: Sequence[Example], name: str) -> None:
    """Writes `objectInfo150.txt`, `images/validation` and `annotations/validation` for the classes of that name."""
    classes, key = CLASSES[name], name.removesuffix("s")
    pictures, annotations = folder / "images" / "validation", folder / "annotations" / "validation"
    pictures.mkdir(parents=True)
    annotations.mkdir(parents=True)
    covered = np.zeros(len(classes) + 1, np.int64)
    seen = np.zeros(len(classes) + 1, np.int64)
    for number, example in enumerate(examples, start=1):
        values = labels(example, [classes.index(getattr(item, key)) + 1 for item in example.scene.objects])
        counts = np.bincount(values.ravel(), minlength=len(classes) + 1)
        covered, seen = covered + counts, seen + (counts > 0)
        (pictures / f"ADE_val_{number:08d}.jpg").write_bytes(example.jpeg)
        (annotations / f"ADE_val_{number:08d}.png").write_bytes(_png(values))
    rows = ["Idx\tRatio\tTrain\tVal\tName"]
    for place, word in enumerate(classes, start=1):
        spoken = f"{word} shape" if name == "colours" else word
        rows.append(f"{place}\t{covered[place] / covered.sum():.4f}\t0\t{seen[place]}\t{spoken}")
    (folder / "objectInfo150.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")


def labels(example: Example, classes: Sequence[int]) -> np.ndarray:
    """Class of every pixel, uint8 (S, S): that of the object which is seen there, from 1, or 0 for the background."""
    return np.array([0, *classes], np.uint8)[example.rendering.labels]


def _png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    # Stored, for what a compressor makes of it may follow from the processor.
    Image.fromarray(values).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()
