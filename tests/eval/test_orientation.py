"""Annotated pictures with an orientation tag: pixels and annotations stay in one frame, so scores are those without it."""

import json

import numpy as np
import pytest
from PIL import Image

from caft.data.sets import load_referring, load_regions
from caft.errors import DataError
from caft.eval.analysis.examples import score_examples, segment
from caft.eval.analysis.granularity import score_granularity
from caft.eval.analysis.superpixel_methods import compare_methods
from caft.eval.scores.referring import score_expressions
from caft.eval.scores.regions import score_regions
from caft.eval.scores.superpixels import score_superpixels
from tests.data import published
from tests.data.test_benchmarks import spec

# What a camera stores of the upright picture, by the tag that it writes.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


def pixels(height=40, width=60):
    """A picture that no turn and no mirror leaves as it is."""
    values = np.random.default_rng(5).integers(0, 90, (height, width, 3), dtype=np.uint8)
    values[2:18, 2:18] += np.array([150, 0, 0], np.uint8)
    values[5:15, 40:50] += np.array([0, 160, 20], np.uint8)
    return values


def save(path, values, tag=None, form="PNG"):
    """Stores pixels as they are, with a tag; PNG, which keeps them to the bit, whatever the ending."""
    exif = Image.Exif()
    if tag is not None:
        exif[0x0112] = tag
    options = {"quality": 95, "subsampling": 0} if form == "JPEG" else {}
    Image.fromarray(np.ascontiguousarray(values)).save(path, form, exif=exif, **options)


def referring(folder, values, tag=None, form="PNG"):
    published.write_refer(folder)
    for path in (folder / "images/train2014").iterdir():
        save(path, values, tag, form)
    return load_referring(spec(folder, "refer", name="refcoco", split="val", pairs=5))


def regions(folder, values, tag=None):
    published.write_fg_ovd(folder / "fg_ovd")
    for name in ("1_attributes", "2_attributes", "3_attributes", "shuffle_negatives"):
        file = folder / f"fg_ovd/{name}.json"
        content = json.loads(file.read_text())
        for image in content["images"]:
            image["height"], image["width"] = 40, 60
        file.write_text(json.dumps(content))
    for path in (folder / "coco").rglob("*.jpg"):
        save(path, values, tag)
    return load_regions(spec(folder / "fg_ovd", "fg_ovd", pairs=8))


def box_features(network, found):
    """Scores in numbers that show any change of the pixels, where shares of few boxes would not."""
    from caft.captions.tokenizer import tokenize
    from caft.eval.scores.features import encode_pictures
    from caft.eval.scores.regions import average_cosines

    texts = network.sub_caption_features(tokenize(["a red box", "grass"]))
    pictures = encode_pictures(network, found.images, found.sizes, 2)
    return [average_cosines(network, picture, (2, 2, 16, 16), (40, 60), texts).tolist() for picture in pictures]


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("tag", range(1, 9))
def test_a_tag_does_not_turn_a_picture_away_from_its_polygons(network, tmp_path, tag, form):
    plain = referring(tmp_path / "plain", pixels(), None, form)
    tagged = referring(tmp_path / "tagged", pixels(), tag, form)
    expected, rows = score_expressions(network, plain, 2)
    found, tagged_rows = score_expressions(network, tagged, 2)
    assert found == expected and 0 < found["miou"]
    assert [row.score for row in tagged_rows] == [row.score for row in rows]
    assert tagged.left_out.turned == 0


@pytest.mark.parametrize("tag", range(5, 9))
def test_a_size_that_fits_only_the_upright_picture_is_followed_and_counted(network, tmp_path, tag):
    plain = referring(tmp_path / "plain", pixels())
    turned = referring(tmp_path / "turned", STORED[tag](pixels()), tag)
    assert score_expressions(network, turned, 2) == score_expressions(network, plain, 2)
    assert turned.left_out.record() == {"turned": 2}
    assert np.array_equal(np.asarray(turned.images[0].picture), pixels())


@pytest.mark.parametrize("tag", range(1, 9))
def test_boxes_stay_on_their_pixels_too(network, tmp_path, tag):
    plain, tagged = regions(tmp_path / "plain", pixels()), regions(tmp_path / "tagged", pixels(), tag)
    assert score_regions(network, tagged, 2) == score_regions(network, plain, 2)
    assert box_features(network, tagged) == box_features(network, plain)
    if tag > 4:
        turned = regions(tmp_path / "turned", STORED[tag](pixels()), tag)
        assert score_regions(network, turned, 2) == score_regions(network, plain, 2)
        assert box_features(network, turned) == box_features(network, plain)
        assert turned.left_out.record() == {"turned": 2}


@pytest.mark.parametrize("tag", [3, 6, 8])
def test_superpixels_and_the_reports_examples_see_the_same_pixels(network, tmp_path, tag):
    plain, tagged = referring(tmp_path / "plain", pixels()), referring(tmp_path / "tagged", pixels(), tag)
    sfcn, config = network.superpixels, network.config
    scores = [score_superpixels(sfcn, 64, config.superpixels.cell, found) for found in (plain, tagged)]
    assert scores[0] == scores[1]
    methods = [[row.scores for row in compare_methods(network, found, 2, 1)[0]] for found in (plain, tagged)]
    assert methods[0] == methods[1]
    cases = [score_examples(network, found, 2, 10, "hard") for found in (plain, tagged)]
    assert [case.iou for case in cases[0]] == [case.iou for case in cases[1]]
    shown = segment(network, "best", cases[1][0], "hard")
    assert np.array_equal(np.asarray(shown.image), pixels()) and shown.mask.shape == (40, 60)
    tables = [score_granularity(network, {"a": found, "b": found}, 10, 1, "hard") for found in (plain, tagged)]
    assert tables[0][0] == tables[1][0]
    assert all(np.array_equal(np.asarray(case.image), pixels()) for case in tables[1][1])


@pytest.mark.parametrize("tag", [None, 1, 3, 6])
def test_a_size_that_fits_neither_way_is_refused_at_load(tmp_path, tag):
    for place, (height, width) in enumerate([(30, 20), (60, 40)] if tag != 6 else [(30, 20), (40, 61)]):
        with pytest.raises(
            DataError, match=rf"images of another size: 2 .*{width} x {height} pixels, its annotations are"
        ):
            referring(tmp_path / str(place), pixels(height, width), tag)


def test_a_square_picture_is_taken_as_stored(tmp_path):
    folder = tmp_path / "refer"
    published.write_refer(folder)
    file = folder / "refcoco/instances.json"
    content = json.loads(file.read_text())
    for image in content["images"]:
        image["width"] = 40
    for annotation in content["annotations"]:
        annotation["segmentation"] = [[1, 1, 9, 1, 9, 9]]
    file.write_text(json.dumps(content))
    for path in (folder / "images/train2014").iterdir():
        save(path, pixels(40, 40), 6)
    found = load_referring(spec(folder, "refer", name="refcoco", split="val"))
    assert np.array_equal(np.asarray(found.images[0].picture), pixels(40, 40)) and found.left_out.turned == 0
