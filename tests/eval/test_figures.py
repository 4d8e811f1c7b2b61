import io

import numpy as np
import pytest
from PIL import Image

from caft.eval.charts import Series, line_chart
from caft.eval.figures import LINE, TRUTH, fit, outline, overlay, png, segmentation


@pytest.fixture
def image():
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30] = (200, 40, 40)
    pixels[:, 30:] = (40, 40, 200)
    return Image.fromarray(pixels)


def test_fit_keeps_the_shape(image):
    assert fit(image, 120).size == (120, 80)
    assert fit(image.resize((10, 50)), 25).size == (5, 25)


def test_overlay_is_bright_where_the_map_is_high(image):
    values = np.zeros((4, 6))
    values[1, 4] = 1e-5  # a map of any scale is shown from its least to its largest value
    shown = np.asarray(overlay(image, values).convert("L"), int)
    assert shown.shape == (40, 60)
    assert shown[15, 45] > shown[15, 5] + 80
    assert np.asarray(overlay(image, np.full((4, 6), 0.5))).shape == (40, 60, 3)


def test_outline_marks_the_edge_and_leaves_the_rest(image):
    mask = np.zeros((40, 60), bool)
    mask[10:20, 10:20] = True
    shown, before = np.asarray(outline(image, mask, TRUTH)), np.asarray(image)
    assert (shown[10, 12] == TRUTH).all() and (shown[9, 12] == TRUTH).all()
    for y, x in ((15, 15), (2, 2), (10, 25)):
        assert (shown[y, x] == before[y, x]).all()


def test_segments_are_flat_with_lines_between(image):
    labels = np.repeat(np.repeat(np.array([[0, 7], [3, 7]]), 20, 0), 30, 1)  # numbers need not follow each other
    shown = np.asarray(segmentation(image, labels))
    assert (shown[5, 5] == (200, 40, 40)).all() and (shown[35, 50] == (40, 40, 200)).all()
    assert (shown[20, 10] == LINE).all() and (shown[5, 30] == LINE).all()
    assert not (shown[20, 45] == LINE).all()  # no line inside segment 7


def test_a_png_is_a_picture_and_the_same_each_time(image):
    data = png(image)
    assert data == png(image)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(image))


def points(svg):
    inside = svg.split('points="')[1].split('"')[0]
    return [tuple(map(float, pair.split(","))) for pair in inside.split()]


def test_a_chart_draws_its_points_in_order_and_upwards():
    drawn = points(line_chart("t", [Series("a", [(0, 0), (5, 1), (10, 4)], 0)], "x", "y"))
    assert [x for x, _ in drawn] == sorted(x for x, _ in drawn)
    (x0, y0), (x1, y1), (x2, y2) = drawn
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 > y1 > y2  # SVG counts downwards
    assert (y0 - y2) == pytest.approx(4 * (y0 - y1), abs=0.5)


def test_a_chart_names_its_lines_and_escapes_them():
    svg = line_chart("R@1 <set>", [Series("a & b", [(0, 1)], 2, dashed=True)], "step", "percent", from_zero=True)
    assert "R@1 &lt;set&gt;" in svg and "a &amp; b" in svg and "c2 dashed" in svg


def test_lines_without_points_are_left_out():
    assert line_chart("t", [Series("a", [], 0)], "x", "y") == ""
    assert "nothing" not in line_chart("t", [Series("a", [(0, 1), (1, 1)], 0), Series("nothing", [], 1)], "x", "y")
