"""Each loader on a tiny set in the layout in which the real one is published."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from caft.data.benchmarks import Missing, load_referring, load_regions, load_retrieval
from caft.errors import DataError
from caft.params import BenchmarkParams


def picture(path, width=60, height=40):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (90, 120, 30)).save(path)


def spec(path, layout, **more):
    kind = {"urban1k": "retrieval", "docci": "retrieval", "refer": "referring", "fg_ovd": "regions"}[layout]
    return BenchmarkParams(kind=kind, layout=layout, path=str(path), **more)


# ---------------------------------------------------------------------- Urban-1k


@pytest.fixture
def urban(tmp_path):
    folder = tmp_path / "Urban1k"
    (folder / "caption").mkdir(parents=True)
    for number, text in ((2, "Two.\n"), (10, "  Ten. With a line\nbreak. \n\n"), (1, "One: a café.")):
        picture(folder / "image" / f"{number}.jpg")
        (folder / "caption" / f"{number}.txt").write_text(text, encoding="utf-8")
    return folder


def test_urban1k_is_read_in_the_order_of_its_numbers(urban):
    found = load_retrieval(spec(urban, "urban1k", pairs=3))
    assert found.ids == ["1", "2", "10"]
    assert found.captions == ["One: a café.", "Two.", "Ten. With a line\nbreak."]
    assert [path.name for path in found.images] == ["1.jpg", "2.jpg", "10.jpg"]


def test_urban1k_may_call_its_folder_images(urban):
    (urban / "image").rename(urban / "images")
    assert load_retrieval(spec(urban, "urban1k")).images[2] == urban / "images" / "10.jpg"


def test_an_empty_caption_is_refused_by_its_id(urban):
    (urban / "caption" / "2.txt").write_text(" \n")
    with pytest.raises(DataError, match="the caption of 2 is empty; take the publisher's original"):
        load_retrieval(spec(urban, "urban1k"))


def test_an_image_without_caption_is_refused(urban):
    (urban / "caption" / "10.txt").unlink()
    with pytest.raises(DataError, match="1 images or captions without their partner, the first is 10"):
        load_retrieval(spec(urban, "urban1k"))


def test_names_that_are_no_numbers_are_refused(urban):
    picture(urban / "image" / "cover.jpg")
    (urban / "caption" / "cover.txt").write_text("Cover.")
    with pytest.raises(DataError, match="must be numbers, found cover.txt"):
        load_retrieval(spec(urban, "urban1k"))


def test_another_count_than_published_is_refused(urban):
    with pytest.raises(DataError, match="expected 1000 pairs .* found 3"):
        load_retrieval(spec(urban, "urban1k", pairs=1000))


def test_a_set_that_is_not_there_is_missing_with_the_path(tmp_path):
    for layout, load in (("urban1k", load_retrieval), ("docci", load_retrieval), ("fg_ovd", load_regions)):
        found = load(spec(tmp_path / "nowhere", layout))
        assert isinstance(found, Missing)
        assert "nowhere" in found.reason and "data/benchmarks/README.md" in found.reason
    found = load_referring(spec(tmp_path / "nowhere", "refer", name="refcoco", split="val"))
    assert isinstance(found, Missing)
    assert "refcoco/instances.json not found" in found.reason


# ---------------------------------------------------------------------- DOCCI


@pytest.fixture
def docci(tmp_path):
    folder = tmp_path / "docci"
    rows = []
    for split, count in (("train", 2), ("test", 3), ("qual_dev", 1), ("qual_test", 2)):
        for index in range(count):
            name = f"{split}_{index:05d}"
            picture(folder / "images" / f"{name}.jpg")
            text = f"A {split}\u2028picture. Number {index}. "
            rows.append({"example_id": name, "split": split, "image_file": f"{name}.jpg", "description": text})
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "annotations").mkdir()
    (folder / "annotations" / "docci_descriptions.jsonlines").write_text(text, encoding="utf-8")
    return folder


def test_docci_is_its_test_split_without_qual_test(docci):
    found = load_retrieval(spec(docci, "docci", pairs=3))
    assert found.ids == ["test_00000", "test_00001", "test_00002"]
    assert found.captions[1] == "A test\u2028picture. Number 1."


def test_docci_takes_its_file_in_the_folder_itself(docci):
    inner = docci / "annotations" / "docci_descriptions.jsonlines"
    inner.rename(docci / inner.name)
    assert len(load_retrieval(spec(docci, "docci")).ids) == 3


def test_a_missing_image_is_named(docci):
    (docci / "images" / "test_00001.jpg").unlink()
    with pytest.raises(DataError, match="1 of 3 images are not there, the first is .*test_00001.jpg"):
        load_retrieval(spec(docci, "docci"))


@pytest.mark.parametrize("line", ["{", '["a"]', '{"split": "test"}', '{"split": "test", "description": null}'])
def test_a_damaged_line_is_named(docci, line):
    file = docci / "annotations" / "docci_descriptions.jsonlines"
    file.write_text(file.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="docci_descriptions.jsonlines:9: expected a JSON object with example_id"):
        load_retrieval(spec(docci, "docci"))


def test_a_set_without_test_rows_is_refused(docci):
    file = docci / "annotations" / "docci_descriptions.jsonlines"
    file.write_text(file.read_text(encoding="utf-8").replace('"split": "test"', '"split": "dev"'), encoding="utf-8")
    with pytest.raises(DataError, match="expected pairs, found none"):
        load_retrieval(spec(docci, "docci"))


# ---------------------------------------------------------------------- refer


def reference(ref, ann, image, split, *sentences):
    return {
        "ref_id": ref,
        "ann_id": ann,
        "category_id": 1,
        "image_id": image,
        "file_name": f"COCO_train2014_{image:012d}_{ann}.jpg",
        "split": split,
        "sent_ids": list(range(len(sentences))),
        "sentences": [
            {"sent_id": n, "sent": text, "raw": text.title(), "tokens": text.split()}
            for n, text in enumerate(sentences)
        ],
    }


@pytest.fixture
def refer(tmp_path):
    """RefCOCO in small: two images, a mask of two polygons, one of run lengths, a reference of three sentences."""
    folder = tmp_path / "refer" / "refcoco"
    folder.mkdir(parents=True)
    annotations = [
        {"id": 11, "image_id": 7, "segmentation": [[2, 2, 10, 2, 10, 10, 2, 10], [20, 20, 30, 20, 30, 30, 20, 30]]},
        {"id": 12, "image_id": 7, "segmentation": [[40, 5, 50, 5, 50, 15, 40, 15]]},
        {"id": 13, "image_id": 7, "segmentation": {"size": [40, 60], "counts": [0, 2400]}, "iscrowd": 1},
        {"id": 21, "image_id": 3, "segmentation": {"size": [40, 60], "counts": [40, 20, 2340]}},
        {"id": 31, "image_id": 5, "segmentation": [[1, 1, 9, 1, 9, 9]]},
    ]
    for annotation in annotations:
        annotation.update(category_id=1, bbox=[0, 0, 1, 1], area=1, iscrowd=annotation.get("iscrowd", 0))
    images = [{"id": n, "file_name": f"COCO_train2014_{n:012d}.jpg", "height": 40, "width": 60} for n in (7, 3, 5)]
    instances = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "instances.json").write_text(json.dumps(instances))
    references = [
        reference(1, 12, 7, "val", "the right one", "right", "small square"),
        reference(2, 11, 7, "val", "both squares"),
        reference(3, 21, 3, "val", "left edge"),
        reference(4, 31, 5, "testA", "the corner"),
    ]
    (folder / "refs(unc).p").write_bytes(pickle.dumps(references, protocol=2))
    for number in (3, 7, 5):
        picture(tmp_path / "images" / "train2014" / f"COCO_train2014_{number:012d}.jpg")
    return folder


def of(refer, **more):
    return spec(refer.parent, "refer", **{"name": "refcoco", "split": "val", **more})


def test_refer_gives_one_expression_for_each_sentence(refer):
    found = load_referring(of(refer, pairs=5))
    assert [image.path.name for image in found.images] == [f"COCO_train2014_{n:012d}.jpg" for n in (3, 7)]
    expressions = [(e.text, e.annotation) for image in found.images for e in image.expressions]
    assert expressions == [
        ("left edge", 21), ("the right one", 12), ("right", 12), ("small square", 12), ("both squares", 11),
    ]  # fmt: skip


def test_refer_masks_are_pixels_of_the_original_image_and_no_crowds(refer):
    edge, two = (image.masks for image in load_referring(of(refer)).images)
    assert list(edge) == [21] and list(two) == [11, 12]
    expected = np.zeros((40, 60), bool)
    expected[:20, 1] = True  # 40 pixels down the first column are outside, then 20 of the second are inside
    assert np.array_equal(edge[21], expected)
    union = np.zeros((40, 60), bool)
    union[2:10, 2:10] = union[20:30, 20:30] = True
    assert np.array_equal(two[11], union)


def test_another_split_is_another_set(refer):
    found = load_referring(of(refer, split="testA"))
    assert [e.text for image in found.images for e in image.expressions] == ["the corner"]
    with pytest.raises(DataError, match="no reference of split 'testC'; found testA, val"):
        load_referring(of(refer, split="testC"))


def test_who_split_a_set_must_be_said_where_several_did(refer):
    references = pickle.loads((refer / "refs(unc).p").read_bytes())[:1]
    (refer / "refs(google).p").write_bytes(pickle.dumps(references, protocol=2))
    with pytest.raises(DataError, match="set the benchmark's split_by to one of google, unc"):
        load_referring(of(refer))
    assert len(load_referring(of(refer, split_by="google")).images) == 1
    assert len(load_referring(of(refer, split_by="unc")).images) == 2


class Harmful:
    def __reduce__(self):
        return (print, ("a pickle ran code",))


def test_a_pickle_that_would_run_code_is_refused(refer, capsys):
    (refer / "refs(unc).p").write_bytes(pickle.dumps([Harmful()], protocol=2))
    with pytest.raises(DataError, match="asks for __builtin__.print, and only plain containers are read"):
        load_referring(of(refer))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"\x80\x02]q\x00", pickle.dumps({"a": 1}), pickle.dumps([{"ann_id": 1}])])
def test_a_damaged_pickle_is_named(refer, content):
    (refer / "refs(unc).p").write_bytes(content)
    with pytest.raises(DataError, match=r"refs\(unc\).p: cannot be read"):
        load_referring(of(refer))


def test_python_2_pickles_are_read(refer):
    # [{'image_id': 3, 'ann_id': 21, 'split': 'val', 'sentences': [{'sent': 'caf\xe9'}]}] with Python 2's byte strings.
    text = (
        b"\x80\x02]q\x00}q\x01(U\x08image_idK\x03U\x06ann_idK\x15U\x05splitU\x03valU\tsentences]q\x02}q\x03U\x04sent"
        b"U\x04caf\xe9saua."
    )
    (refer / "refs(unc).p").write_bytes(text)
    found = load_referring(of(refer))
    assert [e.text for image in found.images for e in image.expressions] == ["café"]


def test_references_of_other_instances_are_refused(refer):
    references = [reference(1, 99, 7, "val", "x")]
    (refer / "refs(unc).p").write_bytes(pickle.dumps(references, protocol=2))
    with pytest.raises(DataError, match=r"image 7 or its annotations \[99\] are not in instances.json"):
        load_referring(of(refer))


def test_a_mask_of_another_size_is_refused_by_its_annotation(refer):
    content = json.loads((refer / "instances.json").read_text())
    content["annotations"][3]["segmentation"]["size"] = [60, 40]
    (refer / "instances.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="annotation 21: run lengths for"):
        _ = load_referring(of(refer)).images[0].masks


def test_refer_needs_name_and_split(refer):
    with pytest.raises(DataError, match="needs the keys name .* and split"):
        load_referring(spec(refer.parent, "refer", name="refcoco"))


def test_images_that_are_not_there_leave_the_set_out(refer):
    (refer.parent.parent / "images").rename(refer.parent.parent / "pictures")
    found = load_referring(of(refer))
    assert isinstance(found, Missing) and "images/train2014 not found" in found.reason


# ---------------------------------------------------------------------- FG-OVD


@pytest.fixture
def fg_ovd(tmp_path):
    folder = tmp_path / "fg_ovd"
    folder.mkdir()
    for level, name in enumerate(("1_attributes", "2_attributes", "3_attributes", "shuffle_negatives")):
        # Category numbers are each file's own.
        categories = [{"id": 100 * level + n, "name": f"{name} {n}"} for n in range(12)]
        annotations = [
            {"id": 0, "image_id": 4, "bbox": [1.5, 2, 30, 20.25], "category_id": 100 * level + 3,
             "neg_category_ids": [100 * level + n for n in (0, 1, 2, 4, 5, 6, 7, 8, 9, 10)]},
            {"id": 1, "image_id": 9, "bbox": [5, 5, 3, 2], "category_id": 100 * level,
             "neg_category_ids": [100 * level + n for n in (11, 2)]},
        ]  # fmt: skip
        images = [
            {"id": 4, "file_name": "train2017/000000000004.jpg", "width": 60, "height": 40},
            {"id": 9, "file_name": "val2017/000000000009.jpg", "width": 30, "height": 50},
        ]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{name}.json").write_text(json.dumps(content))
    picture(tmp_path / "coco" / "train2017" / "000000000004.jpg")
    picture(tmp_path / "coco" / "val2017" / "000000000009.jpg", 30, 50)
    return folder


def test_fg_ovd_reads_all_four_files_and_both_coco_splits(fg_ovd):
    found = load_regions(spec(fg_ovd, "fg_ovd", pairs=8))
    assert list(found.regions) == ["hard", "medium", "easy", "trivial"]
    assert [f"{path.parent.name}/{path.name}" for path in found.images] == [
        "train2017/000000000004.jpg", "val2017/000000000009.jpg",
    ]  # fmt: skip
    assert found.sizes == [(40, 60), (50, 30)]
    first, second = found.regions["easy"]
    assert (first.image, first.box, first.positive) == (0, (1.5, 2, 30, 20.25), "3_attributes 3")
    assert len(first.negatives) == 10 and first.negatives[3] == "3_attributes 4"
    assert (second.image, second.negatives) == (1, ["3_attributes 11", "3_attributes 2"])


def test_fg_ovd_without_one_of_its_files_is_missing(fg_ovd):
    (fg_ovd / "3_attributes.json").unlink()
    found = load_regions(spec(fg_ovd, "fg_ovd"))
    assert isinstance(found, Missing) and "3_attributes.json not found" in found.reason


@pytest.mark.parametrize(
    "change, message",
    [
        ({"category_id": 999}, "annotation 1 names 999, which is not there"),
        ({"neg_category_ids": []}, "with 0 negatives"),
        ({"bbox": [5, 5, 0, 2]}, "expected a positive width and height"),
    ],
)
def test_a_damaged_box_is_named(fg_ovd, change, message):
    content = json.loads((fg_ovd / "2_attributes.json").read_text())
    content["annotations"][1].update(change)
    (fg_ovd / "2_attributes.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"2_attributes.json: annotation 1.*{message.removeprefix('annotation 1')}"):
        load_regions(spec(fg_ovd, "fg_ovd"))


def test_a_cut_off_file_is_named(fg_ovd):
    (fg_ovd / "1_attributes.json").write_text('{"images": [')
    with pytest.raises(DataError, match="1_attributes.json: is no whole JSON file"):
        load_regions(spec(fg_ovd, "fg_ovd"))
