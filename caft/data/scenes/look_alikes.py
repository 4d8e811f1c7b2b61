"""Look-alike groups for evaluation: scenes that differ from the first of their group in one thing, of a kind that is known."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np

from caft.data.scenes.grammar import (
    COLOURS,
    NUM_CELLS,
    NUM_OBJECTS,
    PATTERNS,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    choice,
    random_scene,
)

GROUP = 4
# What differs: an attribute of one object; the cell of one; the cells of two, which are swapped; an object more or less.
KINDS = ("colour", "pattern", "shape", "size", "place", "relation", "count")
_OPTIONS = {"colour": COLOURS, "pattern": PATTERNS, "shape": SHAPES, "size": SIZES}

Content = tuple[str, str, frozenset[SceneObject]]


def content(scene: Scene) -> Content:
    """What a scene shows, whatever the order in which its objects are listed: they lie in cells of their own."""
    return scene.background, scene.texture, frozenset(scene.objects)


def kind_of(group: int) -> str:
    """The kind of a group by its number: the kinds take turns."""
    return KINDS[group % len(KINDS)]


def fresh_scene(rng: np.random.Generator, taken: Collection[Content]) -> Scene:
    """Returns a random scene that shows none of what is taken."""
    while content(scene := random_scene(rng)) in taken:
        pass
    return scene


def look_alike_group(rng: np.random.Generator, kind: str, taken: Collection[Content]) -> list[Scene]:
    """Returns `GROUP` scenes: a random one, and others that each differ from it in one thing of a kind.

    None shows what is taken.
    """
    while True:
        first = fresh_scene(rng, taken)
        others = [scene for scene in variants(first, kind, rng) if content(scene) not in taken]
        if len(others) >= GROUP - 1:  # two objects can be swapped in one way only
            chosen = rng.permutation(len(others))[: GROUP - 1]
            return [first, *(others[place] for place in chosen)]


def variants(scene: Scene, kind: str, rng: np.random.Generator) -> list[Scene]:
    """Returns the scenes that differ from one in one thing of a kind, each once.

    Of those with an object more there is one for each free cell, whose object `rng` draws.
    """
    objects = scene.objects
    free = [cell for cell in range(NUM_CELLS) if cell not in {item.cell for item in objects}]
    if kind == "relation":
        pairs = [(i, j) for j in range(len(objects)) for i in range(j)]
        return [_with(scene, {i: _at(objects[i], objects[j]), j: _at(objects[j], objects[i])}) for i, j in pairs]
    if kind == "count":
        less = [replace(scene, objects=objects[:i] + objects[i + 1 :]) for i in range(len(objects))]
        more = [replace(scene, objects=(*objects, _new(scene, cell, rng))) for cell in free]
        return (less if len(objects) > NUM_OBJECTS[0] else []) + (more if len(objects) < NUM_OBJECTS[1] else [])
    if kind == "place":
        return [_with(scene, {i: replace(item, cell=cell)}) for i, item in enumerate(objects) for cell in free]
    taken = {(item.shape, item.colour) for item in objects}
    changed = [
        (i, _changed(item, kind, option))
        for i, item in enumerate(objects)
        for option in _OPTIONS[kind]
        if option != getattr(item, kind)
    ]
    names = kind in ("shape", "colour")  # which together name one object of a scene
    return [_with(scene, {i: item}) for i, item in changed if not (names and (item.shape, item.colour) in taken)]


def _with(scene: Scene, items: dict[int, SceneObject]) -> Scene:
    """The scene with other objects at some places."""
    return replace(scene, objects=tuple(items.get(i, item) for i, item in enumerate(scene.objects)))


def _changed(item: SceneObject, attribute: str, option: str) -> SceneObject:
    changes: dict[str, Any] = {attribute: option}
    return replace(item, **changes)


def _at(item: SceneObject, other: SceneObject) -> SceneObject:
    return replace(item, cell=other.cell)


def _new(scene: Scene, cell: int, rng: np.random.Generator) -> SceneObject:
    """An object for a free cell whose name no object of the scene has."""
    taken = {(item.shape, item.colour) for item in scene.objects}
    while (name := (choice(SHAPES, rng), choice(COLOURS, rng))) in taken:
        pass
    return SceneObject(*name, pattern=choice(PATTERNS, rng), size=choice(SIZES, rng), cell=cell)
