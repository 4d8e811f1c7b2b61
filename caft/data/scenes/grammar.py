"""Which scenes there are: a background and two to four objects, drawn from a seed.

A scene is only a description. `caft.data.scenes.render` paints it and
`caft.data.scenes.captions` writes about it; both take nothing but the scene and a generator.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "white", "black")
PATTERNS = ("plain", "striped", "dotted")
SIZES = ("small", "large")
BACKGROUNDS = ("gray", "pink", "teal", "brown", "beige", "olive")
TEXTURES = ("smooth", "tiled", "grainy")

GRID = 3  # cells are numbered row by row: 0 top left, 8 bottom right
NUM_CELLS = GRID * GRID
NUM_OBJECTS = (2, 4)  # fewest and most

# Share of training scenes that repeat an earlier one but for one change. Without such pairs the
# gist of a scene tells it from all others, and nothing rewards looking at the parts.
LOOK_ALIKE_SHARE = 0.25
CHANGES = ("shape", "colour", "pattern", "cell")

# Streams of random numbers. Equal seeds for training and evaluation still give different scenes.
TRAIN, RANDOM, LOOK_ALIKE = 0, 1, 2
SPEC, PIXELS, WORDS, FALSE = 0, 1, 2, 3


@dataclass(frozen=True)
class SceneObject:
    """One object; `cell` is its place in the 3 x 3 layout."""

    shape: str
    colour: str
    pattern: str
    size: str
    cell: int

    @property
    def row(self) -> int:
        """Row of the cell, 0 at the top."""
        return self.cell // GRID

    @property
    def column(self) -> int:
        """Column of the cell, 0 at the left."""
        return self.cell % GRID


@dataclass(frozen=True)
class Scene:
    """A background and its objects; no two share shape and colour, or a cell.

    So the colour and shape of an object always name one object of the scene.
    """

    background: str
    texture: str
    objects: tuple[SceneObject, ...]


def generator(seed: int, stream: int, number: int, purpose: int) -> np.random.Generator:
    """Returns the generator for one purpose (SPEC, PIXELS, WORDS, FALSE) of one scene of one stream."""
    return np.random.default_rng((seed, stream, number, purpose))


def choice(options: tuple[str, ...], rng: np.random.Generator) -> str:
    """Returns one of `options`, all equally likely."""
    return options[int(rng.integers(len(options)))]


def random_scene(rng: np.random.Generator) -> Scene:
    """Returns a scene with no relation to any other."""
    count = int(rng.integers(NUM_OBJECTS[0], NUM_OBJECTS[1] + 1))
    # Drawn without replacement from all pairs of shape and colour, so that none occurs twice.
    kinds = rng.choice(len(SHAPES) * len(COLOURS), size=count, replace=False)
    cells = rng.choice(NUM_CELLS, size=count, replace=False)
    objects = tuple(
        SceneObject(
            shape=SHAPES[kind // len(COLOURS)],
            colour=COLOURS[kind % len(COLOURS)],
            pattern=choice(PATTERNS, rng),
            size=choice(SIZES, rng),
            cell=int(cell),
        )
        for kind, cell in zip(kinds, cells, strict=True)
    )
    return Scene(choice(BACKGROUNDS, rng), choice(TEXTURES, rng), objects)


def changed(scene: Scene, rng: np.random.Generator) -> Scene:
    """Returns `scene` with one change: shape, colour, pattern or cell of one object."""
    index = int(rng.integers(len(scene.objects)))
    attribute = choice(CHANGES, rng)
    before = scene.objects[index]
    others = scene.objects[:index] + scene.objects[index + 1 :]
    if attribute == "cell":
        taken = {other.cell for other in scene.objects}
        free = [cell for cell in range(NUM_CELLS) if cell not in taken]
        after = replace(before, cell=free[int(rng.integers(len(free)))])
    elif attribute == "pattern":
        after = replace(before, pattern=choice(_without(PATTERNS, before.pattern), rng))
    elif attribute == "colour":
        taken_colours = {other.colour for other in others if other.shape == before.shape}
        colour = choice(_without(COLOURS, before.colour, *taken_colours), rng)
        after = replace(before, colour=colour)
    else:
        taken_shapes = {other.shape for other in others if other.colour == before.colour}
        after = replace(before, shape=choice(_without(SHAPES, before.shape, *taken_shapes), rng))
    return replace(scene, objects=(*scene.objects[:index], after, *scene.objects[index + 1 :]))


def training_scene(seed: int, number: int) -> Scene:
    """Returns the training scene of that number; about a quarter are look-alikes of earlier ones.

    Scenes of equal seed and number are equal.
    """
    rng = generator(seed, TRAIN, number, SPEC)
    if number > 0 and rng.random() < LOOK_ALIKE_SHARE:
        earlier = int(rng.integers(number))
        return changed(training_scene(seed, earlier), rng)
    return random_scene(rng)


def _without(options: tuple[str, ...], *excluded: str) -> tuple[str, ...]:
    return tuple(option for option in options if option not in excluded)
