"""VOC 2012 and ADE20K on tiny sets in the layouts in which they are published."""

import numpy as np
import pytest
from PIL import Image

from caft.data.sets import Missing, load_segmentation
from caft.data.sets.segmentation import IGNORED, VOC
from caft.errors import DataError
from caft.params.sets import BenchmarkParams
from tests.data import published


def spec(path, layout, **more):
    return BenchmarkParams(kind="segmentation", layout=layout, path=str(path), **more)


def refused(entry):
    with pytest.raises(DataError) as error:
        load_segmentation(entry)
    message = str(error.value)
    assert len(message.splitlines()) <= 10
    return message


@pytest.mark.parametrize("root", ["VOCdevkit/VOC2012", "VOC2012", "."])
def test_voc_is_its_list_without_background_and_border(tmp_path, root):
    pixels = published.write_voc(tmp_path, root)
    found = load_segmentation(spec(tmp_path, "voc", images=2, classes=20, split="val"))
    assert [image.path.stem for image in found.labelled] == list(pixels) and len(found.images) == 2
    assert found.classes == VOC and found.classes[19] == "tv monitor" and found.classes[14] == "person"
    for image, classes in zip(found.labelled, pixels.values(), strict=True):
        labels = image.labels
        assert labels.shape == (image.height, image.width) == (40, 60)
        numbers, counts = np.unique(labels, return_counts=True)
        assert dict(zip(numbers.tolist(), counts.tolist(), strict=True)) == {
            **classes, IGNORED: 40 * 60 - sum(classes.values()),
        }  # fmt: skip


def test_another_split_is_another_list(tmp_path):
    published.write_voc(tmp_path)
    assert len(load_segmentation(spec(tmp_path, "voc", split="train")).labelled) == 1
    found = load_segmentation(spec(tmp_path, "voc", split="test"))
    assert isinstance(found, Missing) and "ImageSets/Segmentation/test.txt not found" in found.reason


@pytest.mark.parametrize("root", ["ADEChallengeData2016", "."])
def test_ade20k_shifts_its_classes_by_one_and_takes_the_first_name(tmp_path, root):
    published.write_ade20k(tmp_path, root)
    found = load_segmentation(spec(tmp_path, "ade20k", images=2, classes=3, split="validation", prompts=["a {name}."]))
    assert found.classes == ("wall", "building", "bed") and found.prompts == ("a {name}.",)
    assert [image.path.name for image in found.labelled] == ["ADE_val_00000001.jpg", "ADE_val_00000002.jpg"]
    first, second = (image.labels[7] for image in found.labelled)
    assert first.tolist() == [IGNORED] * 20 + [0] * 20 + [1] * 20 and second.tolist() == [2] * 40 + [0] * 20


def test_other_counts_are_refused(tmp_path):
    published.write_ade20k(tmp_path)
    message = refused(spec(tmp_path, "ade20k", images=2000, classes=150))
    assert "expected 150 classes" in message and "expected 2000 images" in message


@pytest.fixture
def voc(tmp_path):
    published.write_voc(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            lambda path: Image.new("RGB", (60, 40)).save(path),
            "pixels are RGB; expected 8 bits, the number of the class",
        ),
        (lambda path: Image.new("L", (60, 40), 21).save(path), "holds class 21; there are 20"),
        (lambda path: Image.new("L", (30, 40), 1).save(path), "images of another size: 1"),
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "images that cannot be read: 1"),
        (lambda path: path.unlink(), "images not there: 1"),
    ],
)
def test_bad_annotations_are_named_or_left_out(voc, damage, message):
    damage(voc / "VOCdevkit/VOC2012/SegmentationClass/2007_000042.png")
    assert message in refused(spec(voc, "voc", images=2))
    found = load_segmentation(spec(voc, "voc", images=2, partial=True))
    assert [image.path.stem for image in found.labelled] == ["2007_000033"] and found.expected == 2
    assert len(found.left_out.items) == 1


@pytest.mark.parametrize("values", [(0, 0), (255, 255), (0, 255)])
def test_masks_that_name_no_class_are_refused(voc, values):
    """As those of a saliency set, black and white."""
    for name, value in zip(("2007_000042", "2007_000033"), values, strict=True):
        Image.new("L", (60, 40), value).save(voc / f"VOCdevkit/VOC2012/SegmentationClass/{name}.png")
    assert (
        "SegmentationClass: expected the number of a class, 1 to 20, as the value of a pixel; all are 0 or 255"
        in refused(spec(voc, "voc", images=2))
    )
    # One of the pictures may have none.
    Image.new("L", (60, 40), 20).save(voc / "VOCdevkit/VOC2012/SegmentationClass/2007_000042.png")
    assert len(load_segmentation(spec(voc, "voc", images=2)).labelled) == 2


def test_pictures_of_ade20k_without_a_partner_are_named(tmp_path):
    published.write_ade20k(tmp_path)
    base = tmp_path / "ADEChallengeData2016"
    (base / "annotations/validation/ADE_val_00000002.png").unlink()
    published.picture(base / "images/validation/ADE_val_00000003.webp")
    message = refused(spec(tmp_path, "ade20k"))
    assert "images or annotations without their partner: 1 (ADE_val_00000002: needs annotations/validation/" in message
    assert "images with another ending: 1" in message


@pytest.mark.parametrize(
    "text", ["Idx\tName\n1\twall\n3\tsky\n", "Idx\tName\n1\t\n", "Idx,Name\n1,wall\n", "Idx\tName\n1\twall\n1\twall\n"]
)
def test_a_damaged_table_of_classes_is_refused(tmp_path, text):
    published.write_ade20k(tmp_path, ".")
    (tmp_path / "objectInfo150.txt").write_text(text)
    assert "expected class " in refused(spec(tmp_path, "ade20k"))
