import json
from pathlib import Path

import numpy as np
import pytest

from caft.data.sets.masks import decode_mask, mask_area

# Polygons with the run lengths that pycocotools 2.0.10 makes of them; some leave the image or cross themselves.
CASES = json.loads((Path(__file__).parents[1] / "golden" / "coco_masks.json").read_text())


def runs(mask):
    flat = mask.T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_masks_equal_the_coco_apis(case):
    height, width = case["height"], case["width"]
    assert runs(decode_mask(case["polygons"], height, width)) == case["counts"]
    for counts in (case["counts"], case["compressed"]):
        mask = decode_mask({"size": [height, width], "counts": counts}, height, width)
        assert mask.shape == (height, width)
        assert runs(mask) == case["counts"]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_areas_are_counted_without_drawing(case):
    height, width, expected = case["height"], case["width"], sum(case["counts"][1::2])
    assert mask_area(case["polygons"], height, width) == expected
    for counts in (case["counts"], case["compressed"]):
        assert mask_area({"size": [height, width], "counts": counts}, height, width) == expected


def test_run_lengths_go_down_the_columns():
    mask = decode_mask({"size": [2, 3], "counts": [1, 3, 2]}, 2, 3)
    assert mask.tolist() == [[False, True, False], [True, True, False]]


@pytest.mark.parametrize(
    "segmentation, message",
    [
        ([], "expected polygons or run lengths"),
        ([[1, 2, 3, 4]], "at least three points"),
        (["123456"], "at least three points"),
        ([[0, 0, 1, 1, float("nan"), 2]], "within 12 pixels of the image's corner"),
        ([[0, 0, 1, 1, 1e9, 2]], "within 12 pixels of the image's corner"),
        ({"size": [3, 2], "counts": [6]}, "the image is \\[2, 3\\]"),
        ({"size": [2, 3], "counts": [5]}, "cover 5 pixels, the image has 6"),
        (None, "expected polygons or run lengths, found None"),
        ([["1", 2, 3, 4, 5, 6]], "expected numbers as points"),
        ([[None, 2, 3, 4, 5, 6]], "expected numbers as points"),
        ({"size": 6, "counts": [6]}, "run lengths for 6, the image is"),
        ({"size": [2, 3], "counts": [5, "1"]}, "expected whole numbers as run lengths"),
        ({"size": [2, 3], "counts": [0, 2**63]}, "expected whole numbers as run lengths"),
        ({"size": [2, 3], "counts": None}, "expected whole numbers as run lengths"),
        ({"size": [2, 3], "counts": "\u00e9\ud800"}, "run lengths"),
    ],
)
def test_what_is_no_mask_is_refused(segmentation, message):
    for read in (decode_mask, mask_area):
        with pytest.raises(ValueError, match=message):
            read(segmentation, 2, 3)
