import io
import re

import numpy as np
import pytest
from PIL import Image

from caft.eval.report.charts import Series, line_chart
from caft.model.drawing.figures import (
    LINE,
    SENTENCES,
    TRUTH,
    borders,
    cut_out,
    fit,
    outline,
    overlay,
    segmentations,
    tinted,
    webp,
)
from caft.model.drawing.panels import Panel, sheet


@pytest.fixture
def image():
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30] = (200, 40, 40)
    pixels[:, 30:] = (40, 40, 200)
    return Image.fromarray(pixels)


def test_fit_keeps_the_shape(image):
    assert fit(image, 120).size == (120, 80)
    assert fit(image.resize((10, 50)), 25).size == (5, 25)


def test_a_thin_picture_is_larger_so_that_something_can_be_seen_of_it(image):
    assert fit(image.resize((1000, 100)), 100, 25).size == (250, 25)
    assert fit(image.resize((100, 2000)), 100, 25).size == (15, 300)  # and at most three times as long
    assert fit(image, 120, 30).size == (120, 80)


def shares(shown, colours):
    """Share of pixels (..., 3) that have each of some colours as their hue, on grey of one brightness."""
    tints = [0.55 * 100 + 0.45 * np.array(colour) for colour in colours]
    return [float((np.abs(shown - tint).max(-1) <= 1).mean()) for tint in tints]


@pytest.mark.parametrize("count", [2, 3])
def test_no_mask_hides_another_where_they_lie_over_each_other(count):
    grey = Image.new("RGB", (120, 90), (100, 100, 100))
    masks = [np.zeros((90, 120), bool) for _ in range(count)]
    for number, mask in enumerate(masks):
        mask[10:80, 10 : 60 + 20 * number] = True
    colours = SENTENCES[:count]
    for order in (1, -1):
        shown = np.asarray(tinted(grey, masks[::order], colours[::order]), float)
        assert shares(shown[14:76, 14:56], colours) == pytest.approx([1 / count] * count, abs=0.03)
        assert shares(shown[14:76, 44 + 20 * (count - 1) : 54 + 20 * (count - 1)], colours)[-1] == 1  # the last alone
        assert (shown[40, 5] == 100).all()
        edges = {tuple(pixel) for pixel in shown[10:80, 9].astype(int)}  # where all of them have their line
        assert edges == set(colours)
    assert np.array_equal(np.asarray(tinted(grey, [], [])), np.asarray(grey))


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


def test_lines_stand_between_segments_and_nowhere_else(image):
    labels = np.repeat(np.repeat(np.array([[0, 7], [3, 7]]), 20, 0), 30, 1)  # numbers need not follow each other
    shown = np.asarray(borders(image, labels))
    assert (shown[20, 10] == LINE).all() and (shown[5, 30] == LINE).all()
    assert (shown[5, 5] == (200, 40, 40)).all() and (shown[20, 45] == (40, 40, 200)).all()  # no line inside segment 7


def test_nested_segments_keep_the_hue_of_the_segment_they_lie_in():
    grey = Image.new("RGB", (80, 20), (128, 128, 128))
    fine = np.repeat(np.array([[0, 1, 2, 3]]), 20, 1).repeat(20, 0)
    coarse = np.array([0, 0, 5, 5])[fine]
    pictures = [np.asarray(picture.convert("HSV"), int) for picture in segmentations(grey, [fine, coarse])]
    hues = [[int(picture[10, x, 0]) for x in (10, 30, 50, 70)] for picture in pictures]
    assert hues[1][0] == hues[1][1] and hues[1][2] == hues[1][3]
    assert abs(hues[1][0] - hues[1][2]) > 40
    for one, other in zip(*hues, strict=True):
        assert abs(one - other) <= 2
    colours = {tuple(pictures[0][10, x]) for x in (10, 30, 50, 70)}
    assert len(colours) == 4  # yet children of one parent are told apart


def test_what_is_cut_out_keeps_its_pixels_and_the_rest_is_dark(image):
    mask = np.zeros((20, 30), bool)
    mask[5:10, 2:7] = True
    shown, before = np.asarray(cut_out(image, mask)), np.asarray(image)
    assert (shown[12:18, 6:12] == before[12:18, 6:12]).all()
    assert shown[30, 50].max() < 40 and len(set(shown[30, 50])) == 1


def test_a_picture_file_is_the_same_each_time(image):
    data = webp(image)
    assert data == webp(image)
    decoded = np.asarray(Image.open(io.BytesIO(data)), int)
    assert np.abs(decoded - np.asarray(image, int)).mean() < 6


def test_a_sheet_holds_every_picture_and_leaves_room_for_words(image):
    plain = sheet([("", [(image, ""), (image, "")])])
    worded = sheet([("A heading.", [(image, "one"), (image, "two")])])
    assert plain.size == (2 * 60 + 8 + 24, 40 + 4 + 24)
    assert worded.height > plain.height + 30 and worded.width == plain.width
    pixels = np.asarray(worded)
    reds = (pixels == (200, 40, 40)).all(2)
    assert reds.sum() == 2 * 30 * 40
    four = sheet([("", [(image, "")])] * 4, columns=2)
    assert four.size == (2 * 60 + 16 + 24, 2 * 44 + 16 + 24)


def places(pixels, colour):
    """Rows and columns of the pixels of a colour, as ranges."""
    rows, columns = np.nonzero((pixels == colour).all(2))
    return (rows.min(), rows.max() + 1), (columns.min(), columns.max() + 1)


def test_panoramas_stand_below_each_other():
    colours = [(200, 40, 40), (40, 40, 200), (40, 200, 40)]
    pictures = [(Image.new("RGB", (720, 72), colour), "words") for colour in colours]
    pixels = np.asarray(sheet([("A heading.", pictures)]))
    found = [places(pixels, colour) for colour in colours]
    assert {columns for _, columns in found} == {(12, 732)} and pixels.shape[1] == 744
    tops = [rows[0] for rows, _ in found]
    assert all(rows[1] - rows[0] == 72 for rows, _ in found)
    assert tops[1] - tops[0] == tops[2] - tops[1] > 72 + 14


def test_words_below_a_narrow_picture_are_not_broken():
    strip, wide = Image.new("RGB", (20, 200), (200, 40, 40)), Image.new("RGB", (200, 200), (200, 40, 40))
    heights = [sheet([("", [(picture, "attention")] * 3)]).height for picture in (strip, wide)]
    assert heights[0] == heights[1]  # one line each
    pixels = np.asarray(sheet([("", [Panel(strip, "attention", (0.001, 0.25))])]))
    assert max(len(np.unique(row, axis=0)) for row in pixels[-40:]) > 60  # the bar of colours is wide enough to be one


def paths(chart, colour, what="stroke"):
    """Points of the lines or areas of a colour; those of the legend, which are level, left out."""
    found = re.findall(r'<path (?:id="\w+" )?d="([^"]*)"(?: style="([^"]*)")?', chart.svg)
    if what == "fill":
        return [numbers(d) for d, style in found if not style]
    lines = [numbers(d) for d, style in found if f"stroke: var(--c{colour})" in style]
    return [line for line in lines if len({y for _, y in line}) > 1]


def numbers(d):
    return [tuple(map(float, pair)) for pair in re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", d)]


def test_a_chart_draws_its_points_in_order_and_upwards():
    (drawn,) = paths(line_chart("t", [Series("a", [(0, 0), (5, 1), (10, 4)], 0)], "x", "y"), 0)
    assert [x for x, _ in drawn] == sorted(x for x, _ in drawn)
    (x0, y0), (x1, y1), (x2, y2) = drawn
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 > y1 > y2  # SVG counts downwards
    assert (y0 - y2) == pytest.approx(4 * (y0 - y1), abs=0.5)


def test_equal_steps_of_a_logarithmic_axis_are_equal_factors():
    chart = line_chart("t", [Series("a", [(50, 0), (500, 1), (5000, 4)], 0)], "x", "y", log=True)
    (((x0, _), (x1, _), (x2, _)),) = paths(chart, 0)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.01)
    ticks = re.findall(r">([\d,]+)</text>", chart.svg)
    assert ticks[:3] == ["50", "500", "5,000"]


def test_a_chart_names_its_lines_and_escapes_them():
    line = Series("a & b", [(0, 1), (1, 2)], 2, dashed=True)
    chart = line_chart("R@1 <set>", [line], "step", "percent", span="zero")
    assert (chart.title, chart.unit) == ("R@1 <set>", "percent")
    assert 'aria-label="R@1 &lt;set&gt;"' in chart.svg and ">a &amp; b</text>" in chart.svg
    assert "stroke-dasharray" in chart.svg and "var(--c2)" in chart.svg


def test_a_band_encloses_its_line_and_widens_the_axis():
    line = Series("a", [(0, 2), (10, 4)], 1, band=[(0, 1, 3), (10, 0, 40)])
    chart = line_chart("t", [line], "x", "y")
    (corners,), (drawn,) = paths(chart, 1, "fill"), paths(chart, 1)
    height = float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', chart.svg)[1])
    at = {
        x: sorted(height + y for place, y in corners if place == x) for x, _ in drawn
    }  # the area hangs from the bottom
    for x, y in drawn:
        assert at[x][0] < y < at[x][-1]
    assert all(0 <= y <= height for ends in at.values() for y in ends)
    assert chart.svg.count("fill-opacity") == 1
    assert "fill-opacity" not in line_chart("t", [Series("a", [(0, 2), (10, 4)], 1)], "x", "y").svg


def test_lines_without_points_are_left_out():
    assert line_chart("t", [Series("a", [], 0)], "x", "y") is None
    chart = line_chart("t", [Series("a", [(0, 1), (1, 1)], 0), Series("nothing", [], 1)], "x", "y")
    assert "nothing" not in chart.svg


def test_a_chart_asks_for_nothing_and_is_the_same_each_time():
    line = Series("a", [(0, 2), (10, 4)], 1, band=[(0, 1, 3), (10, 0, 40)])
    first, second = (line_chart("t", [line], "x", "y") for _ in range(2))
    assert first == second
    assert "url(" not in first.svg and not re.search(r'(?<!xlink:)href=|src=|xlink:href="[^#]', first.svg)
    assert not re.search(r"#[0-9a-f]{6}\b(?!\d)", re.sub(r'(id|href)="[^"]*"', "", first.svg))  # the page's colours
