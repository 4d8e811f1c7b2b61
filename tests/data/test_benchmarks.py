"""Each loader on a tiny set in the layout in which the real one is published."""

import json
import os
import pickle

import numpy as np
import pytest
from pydantic import ValidationError

from caft.data.sets import (
    ATTRIBUTE_FILES,
    LOADERS,
    REGION_FILES,
    Missing,
    load_referring,
    load_regions,
    load_retrieval,
    load_zero_shot,
    referring,
)
from caft.data.sets.captions import head
from caft.errors import DataError, ParamsError
from caft.params import load_params
from caft.params.sets import BenchmarkParams
from tests.data import published
from tests.data.published import picture, reference

KINDS = {
    "refer": "referring",
    "fg_ovd": "regions",
    "imagenet": "zero_shot",
    **dict.fromkeys(("sugar_crepe", "winoground", "aro"), "composition"),
    **dict.fromkeys(("voc", "ade20k"), "segmentation"),
}


def spec(path, layout, **more):
    return BenchmarkParams(kind=KINDS.get(layout, "retrieval"), layout=layout, path=str(path), **more)


# ---------------------------------------------------------------------- Urban-1k


@pytest.fixture
def urban(tmp_path):
    published.write_urban1k(tmp_path / "urban1k")
    return tmp_path / "urban1k"


def test_urban1k_is_read_in_the_order_of_its_numbers(urban):
    found = load_retrieval(spec(urban, "urban1k", pairs=3))
    assert found.ids == ["1", "2", "10"]
    assert found.captions == [
        "A café on a corner. A lamp hangs over its door.",
        "A cat sleeps on a chair. The chair is red.",
        "A bus waits at a stop. Its door is open.\nTwo people get on.",
    ]
    assert [path.name for path in found.images] == ["1.jpg", "2.jpg", "10.jpg"]


def test_urban1k_may_call_its_folder_images(urban):
    (urban / "image").rename(urban / "images")
    assert load_retrieval(spec(urban, "urban1k")).images[2] == urban / "images" / "10.jpg"


def test_an_empty_caption_is_refused_by_its_id(urban):
    (urban / "caption" / "2.txt").write_text(" \n")
    with pytest.raises(DataError, match=r"captions without words: 1 \(2: is empty\)\ntake the publisher's files, or"):
        load_retrieval(spec(urban, "urban1k"))


def test_an_image_without_caption_is_refused(urban):
    (urban / "caption" / "10.txt").unlink()
    with pytest.raises(
        DataError, match=r"images or captions without their partner: 1 \(10: 10.jpg needs caption/10.txt\)"
    ):
        load_retrieval(spec(urban, "urban1k"))


def test_names_that_are_no_numbers_are_refused(urban):
    picture(urban / "image" / "cover.jpg")
    (urban / "caption" / "cover.txt").write_text("Cover.")
    with pytest.raises(DataError, match=r"names that must be numbers: 1 \(cover.txt\)"):
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
    published.write_docci(tmp_path / "docci")
    return tmp_path / "docci"


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
    with pytest.raises(DataError, match=r"images not there: 1 \(docci/images/test_00001.jpg\)"):
        load_retrieval(spec(docci, "docci"))


@pytest.mark.parametrize("line", ["{", '["a"]', '{"split": "test"}', '{"split": "test", "description": null}'])
def test_a_damaged_line_is_named(docci, line):
    file = docci / "annotations" / "docci_descriptions.jsonlines"
    file.write_text(file.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="docci_descriptions.jsonlines:9: expected a JSON object"):
        load_retrieval(spec(docci, "docci"))


def test_a_set_without_test_rows_is_refused(docci):
    file = docci / "annotations" / "docci_descriptions.jsonlines"
    file.write_text(file.read_text(encoding="utf-8").replace('"split": "test"', '"split": "dev"'), encoding="utf-8")
    with pytest.raises(DataError, match="expected pairs, found none"):
        load_retrieval(spec(docci, "docci"))


# ---------------------------------------------------------------------- refer


@pytest.fixture
def refer(tmp_path):
    return published.write_refer(tmp_path / "refer")


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
    with pytest.raises(DataError, match="no reference of split 'testC'; found testA, testB, val"):
        load_referring(of(refer, split="testC"))


def test_who_split_a_set_must_be_said_where_several_did(refer):
    references = pickle.loads((refer / "refs(unc).p").read_bytes())[:1]
    (refer / "refs(google).p").write_bytes(pickle.dumps(references, protocol=2))
    with pytest.raises(DataError, match="set the benchmark's split_by to one of google, unc"):
        load_referring(of(refer))
    assert len(load_referring(of(refer, split_by="google")).images) == 1
    assert len(load_referring(of(refer, split_by="unc")).images) == 2


class RunsCode:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self.folder),))


def test_a_pickle_that_would_run_code_is_refused(refer, tmp_path):
    (refer / "refs(unc).p").write_bytes(pickle.dumps([RunsCode(tmp_path / "made")], protocol=2))
    with pytest.raises(DataError, match=f"asks for {os.mkdir.__module__}.mkdir, and only plain containers are read"):
        load_referring(of(refer))
    assert not (tmp_path / "made").exists()


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
    with pytest.raises(DataError, match=r"references that instances.json does not have: 1 \(.*0007.jpg, annotation 99"):
        load_referring(of(refer))


def test_a_mask_of_another_size_is_refused_by_its_annotation(refer):
    content = json.loads((refer / "instances.json").read_text())
    content["annotations"][3]["segmentation"]["size"] = [60, 40]
    (refer / "instances.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="annotation 21: run lengths for"):
        _ = load_referring(of(refer)).images[0].masks


def test_refer_needs_name_and_split(refer):
    for given, left_out in (("name", "split"), ("split", "name")):
        with pytest.raises(ValidationError, match=f"{left_out}\n.* must be given where layout is refer"):
            spec(refer.parent, "refer", **{given: "refcoco"})


def test_images_that_are_not_there_leave_the_set_out(refer):
    (refer.parent / "images").rename(refer.parent / "pictures")
    found = load_referring(of(refer))
    assert isinstance(found, Missing) and "images/train2014 not found" in found.reason


# ---------------------------------------------------------------------- FG-OVD


@pytest.fixture
def fg_ovd(tmp_path):
    published.write_fg_ovd(tmp_path / "fg_ovd")
    return tmp_path / "fg_ovd"


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


@pytest.mark.parametrize("partial", [False, True])
def test_fg_ovd_without_one_of_its_files_is_what_is_there(fg_ovd, partial):
    (fg_ovd / "3_attributes.json").unlink()
    boxes = dict.fromkeys(REGION_FILES, 2)
    found = load_regions(spec(fg_ovd, "fg_ovd", pairs=8, boxes=boxes, partial=partial))
    assert {level: len(rows) for level, rows in found.regions.items()} == {"hard": 2, "medium": 2, "trivial": 2}
    assert list(found.skipped) == ["easy"] and "3_attributes.json not found" in found.skipped["easy"]
    with pytest.raises(DataError, match=r"expected 3 boxes \(the benchmark's key boxes.hard\), found 2"):
        load_regions(spec(fg_ovd, "fg_ovd", boxes={**boxes, "hard": 3}))
    for name in ("1_attributes", "2_attributes", "shuffle_negatives"):
        (fg_ovd / f"{name}.json").unlink()
    found = load_regions(spec(fg_ovd, "fg_ovd", partial=partial))
    assert isinstance(found, Missing) and "1_attributes.json not found" in found.reason


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


def test_the_attribute_files_are_read_where_they_are_asked_for_and_no_score_depends_on_them(fg_ovd):
    boxes = dict.fromkeys([*REGION_FILES, *ATTRIBUTE_FILES], 2)
    found = load_regions(spec(fg_ovd, "fg_ovd", boxes=boxes))
    assert list(found.regions) == list(boxes) and not found.skipped
    assert found.regions["pattern"][0].positive == "pattern 3"
    (fg_ovd / "pattern.json").unlink()
    found = load_regions(spec(fg_ovd, "fg_ovd", boxes=boxes))
    assert list(found.regions) == [level for level in boxes if level != "pattern"]
    assert list(found.skipped) == ["pattern"] and "pattern.json not found" in found.skipped["pattern"]
    assert {*load_regions(spec(fg_ovd, "fg_ovd")).regions} == {*REGION_FILES}


def test_every_file_has_its_own_count(fg_ovd):
    with pytest.raises(DataError, match=r"2_attributes.json: expected 3 boxes \(the benchmark's key boxes.medium\)"):
        load_regions(spec(fg_ovd, "fg_ovd", boxes={"hard": 2, "medium": 3}))
    with pytest.raises(DataError, match="no file for 'colour' of the benchmark's key boxes; known are hard"):
        load_regions(spec(fg_ovd, "fg_ovd", boxes={"colour": 2}))


def test_boxes_of_pictures_that_are_not_there_are_left_out_of_a_partial_set(fg_ovd):
    (fg_ovd.parent / "coco/train2017/000000000004.jpg").unlink()
    boxes = dict.fromkeys(REGION_FILES, 2)
    with pytest.raises(DataError, match=r"images not there: 4 \(coco/train2017/000000000004.jpg"):
        load_regions(spec(fg_ovd, "fg_ovd", boxes=boxes))
    found = load_regions(spec(fg_ovd, "fg_ovd", boxes=boxes, partial=True))
    assert [len(rows) for rows in found.regions.values()] == [1, 1, 1, 1] and found.expected == boxes
    assert [path.name for path in found.images] == ["000000000009.jpg"] and found.regions["hard"][0].image == 0


# ---------------------------------------------------------------------- refer's table


def test_a_large_pickle_is_kept_as_a_table_until_it_changes(refer, monkeypatch):
    monkeypatch.setattr(referring, "_WORTH_KEEPING", 1)
    first = load_referring(of(refer))
    table = refer / "refs(unc).parquet"
    assert table.is_file()
    monkeypatch.setattr(referring._PlainUnpickler, "load", None)  # what is read now is the table
    assert load_referring(of(refer)) == first
    monkeypatch.undo()
    monkeypatch.setattr(referring, "_WORTH_KEEPING", 1)
    (refer / "refs(unc).p").write_bytes(pickle.dumps([reference(1, 12, 7, "val", "another")], protocol=2))
    assert [e.text for image in load_referring(of(refer)).images for e in image.expressions] == ["another"]
    table.write_bytes(b"PAR1 cut off")
    assert [e.text for image in load_referring(of(refer)).images for e in image.expressions] == ["another"]


def test_a_folder_that_cannot_be_written_is_read_all_the_same(refer, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(referring, "_WORTH_KEEPING", 1)
    monkeypatch.setattr(referring, "replacing", refuse)
    assert len(load_referring(of(refer)).images) == 2
    assert not (refer / "refs(unc).parquet").exists()


def test_a_small_pickle_is_not_kept(refer):
    load_referring(of(refer))
    assert not list(refer.glob("*.parquet"))


def test_references_and_images_are_counted_too(refer):
    assert load_referring(of(refer, references=3, images=2, pairs=5)).expected == 5
    for key, found in (("references", 3), ("images", 2)):
        with pytest.raises(DataError, match=rf"expected 9 {key} \(the benchmark's key {key}\), found {found}"):
            load_referring(of(refer, **{key: 9}))


def test_expressions_of_pictures_that_are_not_there_are_left_out_of_a_partial_set(refer):
    (refer.parent / "images/train2014/COCO_train2014_000000000003.jpg").unlink()
    found = load_referring(of(refer, pairs=5, images=2, references=3, partial=True))
    assert sum(len(image.expressions) for image in found.images) == 4 and found.expected == 5


# ---------------------------------------------------------------------- DCI


@pytest.fixture
def dci(tmp_path):
    return tmp_path / "dci", published.write_dci(tmp_path / "dci")


def test_dci_is_all_splits_in_the_order_of_the_file(dci):
    folder, captions = dci
    found = load_retrieval(spec(folder, "dci", split="train+valid+test", pairs=5))
    assert found.ids == ["90-data.json", "11-data.json", "50-data.json", "70-data.json", "10-data.json"]
    assert found.captions == captions == load_retrieval(spec(folder, "dci")).captions
    assert found.captions[0] == "A house with 90 windows.\n It stands alone.\nThe sky has 90 clouds."
    assert found.captions[2] == "A house with 50 windows."
    assert found.images[1] == folder / "densely_captioned_images/photos/sa_11.jpg" and found.truth is None


def test_dci_of_other_peers_is_a_setting(dci):
    folder, _ = dci
    found = load_retrieval(spec(folder, "dci", split="test", text=["extra_caption"]))
    assert found.captions[0] == "It stands alone.\nThe sky has 70 clouds."
    with pytest.raises(DataError, match=r"captions without words: 1 \(50-data.json: is empty\)"):
        load_retrieval(spec(folder, "dci", text=["extra_caption"]))
    with pytest.raises(DataError, match="no split 'dev'; found train, valid, test"):
        load_retrieval(spec(folder, "dci", split="dev"))


def test_a_partial_dci_has_the_pairs_whose_picture_is_there(dci):
    folder, captions = dci
    (folder / "densely_captioned_images/photos/sa_11.jpg").unlink()
    with pytest.raises(DataError, match=r"images not there: 1 (.|\n)*`partial: true`"):
        load_retrieval(spec(folder, "dci", pairs=5))
    found = load_retrieval(spec(folder, "dci", pairs=5, partial=True))
    assert (len(found.captions), found.expected) == (4, 5)
    assert found.captions == [captions[0], *captions[2:]] and "sa_11" not in str(found.images)


def test_a_partial_set_may_have_less_and_never_more(dci):
    folder, _ = dci
    with pytest.raises(DataError, match="expected 4 pairs .* found 5; take the publisher's files and split"):
        load_retrieval(spec(folder, "dci", pairs=4, partial=True))


# ---------------------------------------------------------------------- ShareGPT4V


def test_sharegpt4v_is_the_first_rows_with_pictures_in_three_places(tmp_path):
    captions = published.write_sharegpt4v(tmp_path)
    found = load_retrieval(spec(tmp_path, "sharegpt4v", first=4, pairs=4))
    assert found.captions == captions[:4] and found.ids == ["sa_0", "sa_1", "sa_2", "sa_3"]
    places = ["sam/images/sa_0.jpg", "sam/sa_1.jpg", "images/sa_2.jpg", "sam/images/sa_3.jpg"]
    assert found.images == [tmp_path / place for place in places]
    assert load_retrieval(spec(tmp_path, "sharegpt4v", first=2)).captions == captions[:2]


def test_sharegpt4v_takes_the_file_that_lotlip_saved(tmp_path):
    captions = published.write_sharegpt4v(tmp_path, 4, "share4v_sam_10k.json")
    found = load_retrieval(spec(tmp_path, "sharegpt4v", first=3))
    assert found.captions == captions[:3]
    assert found.images[1] == tmp_path / "sa_000000/sa_1.jpg"
    with pytest.raises(DataError, match="expected 5 pairs .* found 4"):
        load_retrieval(spec(tmp_path, "sharegpt4v", first=5, pairs=5))


def test_the_start_of_a_list_is_read_like_the_whole_list(tmp_path):
    rows = [{"a": ["]", {"b": '\\"[,é '}], "n": number, "f": 0.5} for number in range(9)] + [{}, {"last": None}]
    file = tmp_path / "rows.json"
    for text in (json.dumps(rows), json.dumps(rows, indent=3, ensure_ascii=False)):
        file.write_text(text, encoding="utf-8")
        for count in (0, 1, 5, 11, 20):
            found = list(head(file, count))
            assert found == json.loads(text)[:count]
            assert all(isinstance(row["f"], float) for row in found[:9])


def test_the_rest_of_the_file_is_not_read(tmp_path):
    file = tmp_path / "rows.json"
    with file.open("w") as opened:
        opened.write('[{"n": 1}, {"n": 2}, ')
        opened.write(" " * 300_000 + "this is no JSON")
    assert list(head(file, 2)) == [{"n": 1}, {"n": 2}]
    with pytest.raises(DataError, match="rows.json: is no whole JSON list"):
        list(head(file, 3))
    file.write_text('{"n": 1}')
    with pytest.raises(DataError, match="expected a JSON list"):
        list(head(file, 1))


def test_a_row_in_another_form_is_named(tmp_path):
    published.write_sharegpt4v(tmp_path)
    file = tmp_path / "share-captioner_coco_lcs_sam_1246k_1107.json"
    content = json.loads(file.read_text())
    content[1]["conversations"].reverse()
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="row 1: expected the second turn to be of 'gpt', found 'human'"):
        load_retrieval(spec(tmp_path, "sharegpt4v", first=4))
    del content[0]["image"]
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="row 0: expected id, image and two conversations; KeyError"):
        load_retrieval(spec(tmp_path, "sharegpt4v", first=4))


# ---------------------------------------------------------------------- IIW


def test_iiw_is_three_files_in_their_order(tmp_path):
    folder = tmp_path / "iiw"
    captions = published.write_iiw(folder)
    found = load_retrieval(spec(folder, "iiw", split="DOCCI_Test+IIW-400+DCI_Test", pairs=4))
    assert found.captions == captions == load_retrieval(spec(folder, "iiw")).captions
    assert [str(path.relative_to(folder)) for path in found.images] == [
        "docci/test_00731.jpg", "docci/train_00002.jpg", "docci_aar/aar_test_04600.jpg", "dci/sa_1545038.jpg",
    ]  # fmt: skip
    assert load_retrieval(spec(folder, "iiw", split="IIW-400")).captions == captions[2:3]


def test_iiw_finds_the_pictures_of_docci_and_dci_where_these_lie(tmp_path):
    published.write_iiw(tmp_path / "iiw")
    for place, other in (("docci", "images"), ("docci_aar", "images_aar")):
        (tmp_path / "docci").mkdir(exist_ok=True)
        (tmp_path / "iiw" / place).rename(tmp_path / "docci" / other)
    (tmp_path / "dci/densely_captioned_images").mkdir(parents=True)
    (tmp_path / "iiw/dci").rename(tmp_path / "dci/densely_captioned_images/photos")
    assert len(load_retrieval(spec(tmp_path / "iiw", "iiw", pairs=4)).images) == 4


def test_iiw_without_pictures_of_one_part_is_missing_or_partial(tmp_path):
    published.write_iiw(tmp_path / "iiw")
    (tmp_path / "iiw/dci/sa_1545038.jpg").unlink()
    (tmp_path / "iiw/dci").rmdir()
    found = load_retrieval(spec(tmp_path / "iiw", "iiw", gated=True))
    assert isinstance(found, Missing) and "iiw/dci not found" in found.reason and "terms" in found.reason
    assert len(load_retrieval(spec(tmp_path / "iiw", "iiw", pairs=4, partial=True)).images) == 3


# ---------------------------------------------------------------------- five captions an image


def test_karpathys_test_split_has_the_first_five_captions_of_each_image(tmp_path):
    for name, pictures in (("coco", "val2014"), ("flickr30k", "flickr30k-images")):
        captions = published.write_karpathy(tmp_path / name, name)
        found = load_retrieval(spec(tmp_path / name, "karpathy", split="test", captions=5, pairs=10, images=2))
        assert found.captions == [text for texts in captions for text in texts]
        assert found.truth == [0] * 5 + [1] * 5
        assert found.images == [tmp_path / name / pictures / f"{number:012d}.jpg" for number in (1, 4)]
        assert len(set(found.ids)) == 10
    every = load_retrieval(spec(tmp_path / "coco", "karpathy"))
    assert every.truth == [0] * 5 + [1] * 6


def test_images_of_a_five_caption_set_keep_their_captions_when_one_is_left_out(tmp_path):
    captions = published.write_karpathy(tmp_path, "coco")
    (tmp_path / "val2014/000000000001.jpg").unlink()
    found = load_retrieval(spec(tmp_path, "karpathy", captions=5, pairs=10, images=2, partial=True))
    assert (found.captions, found.truth, found.expected) == (captions[1], [0] * 5, 10)


def test_one_caption_an_image_is_the_first(tmp_path):
    captions = published.write_karpathy(tmp_path, "coco")
    one = load_retrieval(spec(tmp_path, "karpathy", captions=5)).one_to_one()
    assert one.captions == [texts[0] for texts in captions] and len(one.images) == len(one.ids) == 2
    assert one.truth is None and one.one_to_one() is one


def test_an_image_with_too_few_captions_is_refused(tmp_path):
    published.write_karpathy(tmp_path, "flickr30k")
    with pytest.raises(DataError, match="image 1: expected 6 captions, found 5"):
        load_retrieval(spec(tmp_path, "karpathy", captions=6))


# ---------------------------------------------------------------------- ImageNet


def test_imagenet_has_classes_in_the_order_of_their_file(tmp_path):
    names = published.write_imagenet(tmp_path)
    found = load_zero_shot(spec(tmp_path, "imagenet", images=6, classes=3))
    assert found.classes == names == ["tench", "Pomeranian", "St. Bernard dog"]
    by_class = {names[label]: 0 for label in found.labels}
    for path, label in zip(found.images, found.labels, strict=True):
        by_class[names[label]] += 1
        assert {"n01440764": 0, "n02112018": 1, "n01443537": 2}[path.parent.name] == label
    assert by_class == {"tench": 1, "Pomeranian": 2, "St. Bernard dog": 3}


def test_pictures_that_are_not_sorted_into_classes_are_refused(tmp_path):
    published.write_imagenet(tmp_path)
    picture(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(DataError, match="expected folders that .*classnames.txt names; sort"):
        load_zero_shot(spec(tmp_path, "imagenet"))
    (tmp_path / "val").rename(tmp_path / "validation")
    assert isinstance(load_zero_shot(spec(tmp_path, "imagenet")), Missing)


# ---------------------------------------------------------------------- the entries of params.yaml

SETS = {
    "dci": 7805, "docci": 5000, "sharegpt4v_1k": 1000, "sharegpt4v_10k": 10000, "urban1k": 1000, "iiw": 612,
    "refcoco_val": 10834, "refcoco_testA": 5657, "refcoco_testB": 5095,
    "refcoco_plus_val": 10758, "refcoco_plus_testA": 5726, "refcoco_plus_testB": 4889,
    "refcocog_google_val": None, "refcocog_umd_val": 4896,
    "fg_ovd": None, "coco_karpathy": 25000, "flickr30k_karpathy": 5000, "imagenet": None,
    "sugar_crepe": 7511, "winoground": 400, "vg_relation": 23937, "vg_attribution": 28748, "voc20": None, "ade20k": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def entries():
    return {name: entry for name, entry in load_params("params.yaml").benchmarks.items() if entry.page}


def test_every_published_set_has_an_entry_with_its_count_and_terms(entries):
    assert {name: entry.pairs for name, entry in entries.items()} == SETS
    assert all(entry.licence and entry.page.startswith("https://") and not entry.partial for entry in entries.values())
    gated = {name for name, entry in entries.items() if entry.gated}
    assert gated == {"dci", "sharegpt4v_1k", "sharegpt4v_10k", "iiw", "flickr30k_karpathy", "imagenet", "winoground"}


def test_every_entry_reads_the_published_layout_in_its_default_folder(entries, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, entry in entries.items():
        found = LOADERS[entry.kind](entry)
        assert isinstance(found, Missing) and f"{entry.path}/" in found.reason, name
        assert ("terms must be accepted" in found.reason) == entry.gated
    here = tmp_path / "data/benchmarks"
    published.write_dci(here / "dci")
    published.write_docci(here / "docci")
    published.write_sharegpt4v(here / "sharegpt4v")
    published.write_urban1k(here / "urban1k")
    published.write_iiw(here / "iiw")
    for folder, split_by in (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "google"), ("refcocog", "umd")):
        published.write_refer(here / "refer", folder, split_by, images="../coco")
    published.write_fg_ovd(here / "fg_ovd")
    published.write_karpathy(here / "coco", "coco")
    published.write_karpathy(here / "flickr30k", "flickr30k")
    published.write_imagenet(here / "imagenet")
    published.write_sugar_crepe(here / "sugar_crepe")
    published.write_winoground(here / "winoground")
    published.write_aro(here / "aro")
    published.write_voc(here / "voc")
    published.write_ade20k(here / "ade20k")
    counted = {"pairs": None, "images": None, "references": None, "classes": None}
    for name, entry in entries.items():
        with pytest.raises(DataError, match=r"expected \d+ |images not there"):
            LOADERS[entry.kind](entry)
        changes = {**counted, "boxes": dict.fromkeys(entry.boxes), "questions": dict.fromkeys(entry.questions)}
        found = LOADERS[entry.kind](entry.model_copy(update=changes | ({"first": 3} if entry.first else {})))
        assert not isinstance(found, Missing), name
    val, test_a = (
        load_referring(entries[name].model_copy(update=counted)) for name in ("refcoco_plus_val", "refcoco_plus_testA")
    )
    assert [len(image.expressions) for image in val.images] == [1, 4]
    assert [len(image.expressions) for image in test_a.images] == [1]


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"dci": {"layout": "refer"}},
            "dci.layout = refer: must be one of urban1k, docci, dci, sharegpt4v, iiw, karpathy",
        ),
        ({"urban1k": {"split": "test"}}, "urban1k.split = test: only where layout is one of docci, dci, iiw, karpathy"),
        ({"sharegpt4v_1k": {"first": None}}, "sharegpt4v_1k.first = null: must be given where layout is sharegpt4v"),
        ({"refcoco_val": {"split": None}}, "refcoco_val.split = null: must be given where layout is refer"),
        ({"vg_relation": {"name": None}}, "vg_relation.name = null: must be given where layout is aro"),
        ({"voc20": {"pairs": 1}}, "voc20.pairs = 1: only where layout is one of urban1k, docci, dci"),
        ({"voc20": {"prompts": ["a {}"]}}, "voc20.prompts = a {}: each must have {name} once, and no other braces"),
        ({"voc20": {"layout": "aro"}}, "voc20.layout = aro: must be one of voc, ade20k where kind is segmentation"),
    ],
)
def test_keys_that_a_layout_does_not_read_are_refused(tmp_path, change, message):
    (tmp_path / "overlay.yaml").write_text(json.dumps({"benchmarks": change}))
    with pytest.raises(ParamsError) as error:
        load_params("params.yaml", [tmp_path / "overlay.yaml"])
    assert f"benchmarks.{message}" in str(error.value)
