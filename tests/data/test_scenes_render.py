"""Paintings: colours, places and areas are checked on the pixels, by rules of their own."""

import colorsys
import io

import numpy as np
import pytest
from PIL import Image

from caft.data.scenes.grammar import PIXELS, RANDOM, SPEC, TRAIN, Scene, generator, random_scene, training_scene
from caft.data.scenes.render import Rendering, jpeg, render

SIDE = 64


def painted(numbers: range, side: int = SIDE) -> list[tuple[Scene, Rendering]]:
    scenes = [random_scene(generator(7, RANDOM, number, SPEC)) for number in numbers]
    return [
        (scene, render(scene, generator(7, RANDOM, number, PIXELS), side))
        for number, scene in zip(numbers, scenes, strict=True)
    ]


@pytest.fixture(scope="module")
def paintings() -> list[tuple[Scene, Rendering]]:
    return painted(range(256))


def colour_word(pixels: np.ndarray) -> str:
    """What a person would call the middle colour of pixels (n, 3)."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(np.median(pixels, axis=0) / 255))
    if value < 0.25:
        return "black"
    if saturation < 0.15 and value > 0.85:
        return "white"
    degrees = hue * 360
    for word, below in (("red", 15), ("orange", 42), ("yellow", 70), ("green", 170), ("blue", 255), ("purple", 310)):
        if degrees < below:
            return word
    return "red"


def test_objects_have_their_colour_where_the_label_map_has_them(paintings: list[tuple[Scene, Rendering]]) -> None:
    checked = 0
    for scene, rendering in paintings:
        for index, item in enumerate(scene.objects):
            if item.pattern == "plain":
                checked += 1
                assert colour_word(rendering.image[rendering.labels == index + 1]) == item.colour
    assert checked > 200


def test_objects_lie_in_their_cells(paintings: list[tuple[Scene, Rendering]]) -> None:
    for scene, rendering in paintings:
        for index, item in enumerate(scene.objects):
            rows, columns = np.nonzero(rendering.labels == index + 1)
            cell = int(rows.mean() * 3 / SIDE) * 3 + int(columns.mean() * 3 / SIDE)
            assert cell == item.cell


def test_objects_stand_out_from_the_background(paintings: list[tuple[Scene, Rendering]]) -> None:
    for scene, rendering in paintings:
        background = np.median(rendering.image[rendering.labels == 0], axis=0)
        for index in range(len(scene.objects)):
            pixels = rendering.image[rendering.labels == index + 1].astype(float)
            away = np.abs(pixels - background).max(axis=1)
            assert np.median(away) > 45, scene


def test_patterns_show_two_tones_and_plain_objects_one(paintings: list[tuple[Scene, Rendering]]) -> None:
    spread: dict[str, list[float]] = {"plain": [], "striped": [], "dotted": []}
    for scene, rendering in paintings:
        for index, item in enumerate(scene.objects):
            mask = rendering.labels == index + 1
            inner = mask.copy()  # without the mixed pixels of the outline
            inner[1:] &= mask[:-1]
            inner[:-1] &= mask[1:]
            inner[:, 1:] &= mask[:, :-1]
            inner[:, :-1] &= mask[:, 1:]
            spread[item.pattern].append(float(rendering.image[inner].std(axis=0).max()))
    assert max(spread["plain"]) < 15
    assert min(spread["striped"]) > 30
    assert np.quantile(spread["dotted"], 0.01) > 20


def test_trivial_predictors_score_as_documented(paintings: list[tuple[Scene, Rendering]]) -> None:
    """About three objects of 4.3 % of the image each; perfect saliency without a query scores a third."""
    areas, foreground_iou = [], []
    for scene, rendering in paintings:
        for index in range(len(scene.objects)):
            area = int((rendering.labels == index + 1).sum())
            areas.append(100 * area / SIDE**2)
            foreground_iou.append(100 * area / int((rendering.labels > 0).sum()))
    assert 2.8 < len(areas) / len(paintings) < 3.2
    assert 4.0 < np.mean(areas) < 4.7
    assert 30 < np.mean(foreground_iou) < 36


def test_sizes_differ_in_area(paintings: list[tuple[Scene, Rendering]]) -> None:
    area: dict[tuple[str, str], list[int]] = {}
    for scene, rendering in paintings:
        for index, item in enumerate(scene.objects):
            area.setdefault((item.shape, item.size), []).append(int((rendering.labels == index + 1).sum()))
    for shape in ("circle", "square", "triangle", "star", "cross", "heart"):
        ratio = np.median(area[shape, "large"]) / np.median(area[shape, "small"])
        assert ratio == pytest.approx((0.16 / 0.105) ** 2, rel=0.12)


def test_a_circle_fills_pi_quarters_of_its_box_and_a_star_much_less() -> None:
    fill: dict[str, list[float]] = {"circle": [], "star": []}
    for scene, rendering in painted(range(40), side=224):
        for index, item in enumerate(scene.objects):
            if item.shape in fill:
                rows, columns = np.nonzero(rendering.labels == index + 1)
                fill[item.shape].append(len(rows) / (np.ptp(rows) + 1) / (np.ptp(columns) + 1))
    assert np.median(fill["circle"]) == pytest.approx(np.pi / 4, abs=0.02)
    assert np.median(fill["star"]) < 0.45


def test_two_paintings_of_one_scene_differ_and_one_repeated_is_equal() -> None:
    scene = training_scene(0, 5)
    first, again, other = (render(scene, generator(0, TRAIN, number, PIXELS), SIDE) for number in (5, 5, 6))
    assert np.array_equal(first.image, again.image) and np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.image, other.image) and not np.array_equal(first.labels, other.labels)


@pytest.mark.parametrize("side", [16, 64, 224])
def test_images_have_the_size_asked_for(side: int) -> None:
    ((_, rendering),) = painted(range(1), side)
    assert rendering.image.shape == (side, side, 3) and rendering.image.dtype == np.uint8
    assert rendering.labels.shape == (side, side)
    assert Image.open(io.BytesIO(jpeg(rendering.image))).size == (side, side)


def test_jpeg_keeps_the_colours_of_small_objects() -> None:
    for scene, rendering in painted(range(32)):
        decoded = np.asarray(Image.open(io.BytesIO(jpeg(rendering.image))))
        for index, item in enumerate(scene.objects):
            if item.pattern == "plain":
                assert colour_word(decoded[rendering.labels == index + 1]) == item.colour
