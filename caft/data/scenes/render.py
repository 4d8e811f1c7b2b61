"""Paints a scene, and the label map that says which pixel shows which object.

Two paintings of one scene differ: places, angles, texture phases and pixel noise are drawn anew.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from caft.data.scenes.grammar import Scene, SceneObject

# Objects are saturated, white or black; backgrounds are of middle lightness and dull, so that
# every object stands out from each of them.
OBJECT_COLOURS = {
    "red": (214, 32, 38),
    "green": (28, 150, 52),
    "blue": (36, 74, 214),
    "yellow": (250, 222, 40),
    "orange": (248, 128, 20),
    "purple": (132, 40, 172),
    "white": (250, 250, 250),
    "black": (16, 16, 16),
}
BACKGROUND_COLOURS = {
    "gray": (138, 138, 142),
    "pink": (226, 164, 184),
    "teal": (84, 152, 156),
    "brown": (122, 88, 66),
    "beige": (200, 182, 148),
    "olive": (118, 120, 72),
}
# Stripes and dots are painted in a lighter tone of a dark colour and a darker tone of a light one.
LIGHT = ("yellow", "white")
LIGHTER = 0.75  # how far towards white; less would paint red objects with stripes of the pink background
DARKER = 0.65  # how far towards black

RADIUS = {"small": 0.105, "large": 0.16}  # shares of the image's side
CENTRES = (0.18, 0.5, 0.82)  # of the cells; of a large star or square by the edge a tip may be cut
JITTER = 0.03  # of a centre, share of the side
ROTATION = 0.25  # radians, to either side
NOISE = 3.0  # standard deviation of the pixel noise, of 255
SUPERSAMPLING = 2


@dataclass(frozen=True)
class Rendering:
    """A painted scene.

    Attributes:
        image: RGB, uint8 (S, S, 3).
        labels: 0 where the background is seen, i + 1 where object i is; uint8 (S, S).
    """

    image: np.ndarray
    labels: np.ndarray


def render(scene: Scene, rng: np.random.Generator, side: int) -> Rendering:
    """Paints `scene` on a square of `side` pixels.

    A pixel belongs to an object if at least half of it is covered; later objects lie on top.
    """
    canvas = _background(scene, rng, side)
    labels = np.zeros((side, side), dtype=np.uint8)
    for index, item in enumerate(scene.objects):
        _paint(item, index + 1, canvas, labels, rng)
    canvas += rng.standard_normal(canvas.shape, dtype=np.float32) * NOISE
    return Rendering(np.clip(canvas, 0, 255).astype(np.uint8), labels)


def jpeg(image: np.ndarray) -> bytes:
    """Returns the image (S, S, 3) as JPEG; chroma is kept whole, since objects are small."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _background(scene: Scene, rng: np.random.Generator, side: int) -> np.ndarray:
    """Returns the background, float32 (S, S, 3)."""
    colour = np.array(BACKGROUND_COLOURS[scene.background], dtype=np.float32)
    phase = rng.random(2) * 2 * math.pi
    across = np.arange(side, dtype=np.float32) / side
    if scene.texture == "tiled":
        wave = 2 * math.pi * 3.5 * across
        rows, columns = np.sign(np.sin(wave + phase[0])), np.sign(np.sin(wave + phase[1]))
        shade = 13 * np.outer(rows, columns)
    elif scene.texture == "grainy":
        shade = 17 * rng.standard_normal((side, side))
    else:
        wave = math.pi * across
        shade = 5 * np.add.outer(np.sin(wave + phase[0]), np.sin(wave + phase[1]))
    return (colour + shade[:, :, None]).astype(np.float32)


def _paint(item: SceneObject, label: int, canvas: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> None:
    """Paints one object onto `canvas` (S, S, 3) and `labels` (S, S), in place."""
    side = labels.shape[0]
    radius = RADIUS[item.size] * side
    shift = rng.uniform(-JITTER, JITTER, size=2)
    centre = (np.array([CENTRES[item.column], CENTRES[item.row]]) + shift) * side
    angle = rng.uniform(-ROTATION, ROTATION)
    phase = rng.random(2) * 2 * math.pi

    cosine, sine = math.cos(angle), math.sin(angle)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    corners = OUTLINES[item.shape] @ turn * radius + centre  # (P, 2), x and y
    # All work happens in the object's box: at 224 pixels a full frame would cost tenfold.
    left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 1, side)
    large = ((right - left) * SUPERSAMPLING, (bottom - top) * SUPERSAMPLING)
    mask = Image.new("L", (int(large[0]), int(large[1])))
    # Pillow counts pixel centres as whole numbers, the layout counts pixel edges.
    outline = (corners - (left, top)) * SUPERSAMPLING - 0.5
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in outline], fill=255)
    cover = np.asarray(mask.reduce(SUPERSAMPLING), dtype=np.float32) / 255

    ground, tone = _tones(item.colour)
    x = np.arange(left, right, dtype=np.float32)[None, :] + 0.5 - centre[0]
    y = np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5 - centre[1]
    share = _pattern(item.pattern, x * cosine + y * sine, y * cosine - x * sine, side, phase)
    paint = ground + share[:, :, None] * (tone - ground)
    box = canvas[top:bottom, left:right]
    box += cover[:, :, None] * (paint - box)
    labels[top:bottom, left:right][cover >= 0.5] = label


def _pattern(pattern: str, along: np.ndarray, down: np.ndarray, side: int, phase: np.ndarray) -> np.ndarray:
    """Returns the share of the second tone at each pixel of a box, float32 (h, w).

    Args:
        pattern: One of `grammar.PATTERNS`.
        along: The pixels' place along the object's own x axis, in pixels.
        down: The same for its y axis.
        side: Side of the image in pixels; patterns scale with it.
        phase: Two angles in radians that shift the pattern.
    """
    if pattern == "striped":
        wave = np.sin(2 * math.pi * down / (0.078 * side) + phase[0])
        # Less than half is in the second tone: "black" and "white" stay apart when striped.
        return np.clip(0.5 + 1.5 * (wave - 0.3), 0, 1)
    if pattern == "dotted":
        period = 2 * math.pi / (0.086 * side)
        wave = np.cos(period * along + phase[0]) + np.cos(period * down + phase[1])
        return np.clip(0.5 + 1.5 * (wave - 0.8), 0, 1)
    return np.zeros_like(along)


def _tones(colour: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ground and the second tone of an object's colour, both float32 (3,)."""
    ground = np.array(OBJECT_COLOURS[colour], dtype=np.float32)
    if colour in LIGHT:
        return ground, ground * (1 - DARKER)
    return ground, ground + LIGHTER * (255 - ground)


def _star(points: int, outer: float, inner: float) -> np.ndarray:
    angles = np.arange(2 * points) * math.pi / points - math.pi / 2
    radii = np.where(np.arange(2 * points) % 2 == 0, outer, inner)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _circle(radius: float) -> np.ndarray:
    angles = np.arange(32) * 2 * math.pi / 32
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _cross(reach: float, half_width: float) -> np.ndarray:
    quarter = np.array([[half_width, -reach], [half_width, -half_width], [reach, -half_width]])
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


def _heart() -> np.ndarray:
    t = np.arange(40) * 2 * math.pi / 40
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y + 2.5], axis=1) / 16


# Corners of each shape about its centre, (P, 2), x to the right and y down, in radii.
OUTLINES = {
    "circle": _circle(0.94),
    "square": np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.78,
    "triangle": _star(3, 1.16, 0.58) + (0, 0.2),
    "star": _star(5, 1.16, 0.5) + (0, 0.06),
    "cross": _cross(0.97, 0.36),
    "heart": _heart(),
}
