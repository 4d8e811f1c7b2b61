"""SugarCrepe, Winoground and ARO on tiny sets in the layouts in which they are published."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from caft.data.sets import BadItemsError, Missing, View, load_composition
from caft.data.sets.aro import SYMMETRIC
from caft.errors import DataError
from caft.params.sets import BenchmarkParams
from tests.data import published

# Of the list `symmetric` in the notebook of ARO's repository (commit 42dbb5e), sorted, a line each.
SYMMETRIC_DIGEST = "3d3d8797704fc28a86d2e2d44f10fbd9f760e99e7ffbed899c3bb825152e2e4a"


def spec(path, layout, **more):
    return BenchmarkParams(kind="composition", layout=layout, path=str(path), **more)


def refused(entry):
    with pytest.raises(DataError) as error:
        load_composition(entry)
    message = str(error.value)
    assert len(message.splitlines()) <= 10
    return message


# ---------------------------------------------------------------------- SugarCrepe


@pytest.fixture
def sugar(tmp_path):
    published.write_sugar_crepe(tmp_path / "sugar_crepe")
    return tmp_path / "sugar_crepe"


def test_sugar_crepe_is_read_file_after_file_with_the_gap_in_swap_obj(sugar):
    found = load_composition(spec(sugar, "sugar_crepe", pairs=8, questions={"swap_obj": 2, "add_obj": 1}, partial=True))
    assert [question.category for question in found.questions] == ["swap_obj", "swap_obj", "add_obj"]
    found = load_composition(spec(sugar, "sugar_crepe", pairs=8))
    order = ["add_obj", "add_att", "replace_obj", "replace_att", "replace_rel", "swap_obj", "swap_obj", "swap_att"]
    assert [question.category for question in found.questions] == order
    first = found.questions[0]
    assert first.captions == ("A cat on a chair.", "A cat and a dog on a chair.")
    assert first.views == (View(sugar.parent / "coco/val2017/000000000139.jpg"),)
    assert list(found.macro) == list(dict.fromkeys(order)) and len(found.images) == 3 and found.expected == 8


def test_sugar_crepe_finds_its_files_flat_and_its_pictures_inside(tmp_path):
    published.write_sugar_crepe(tmp_path / "one", inner=".", pictures=tmp_path / "one/val2017")
    assert len(load_composition(spec(tmp_path / "one", "sugar_crepe")).questions) == 8


def test_another_count_of_a_category_is_refused(sugar):
    message = refused(spec(sugar, "sugar_crepe", questions={"swap_obj": 245}))
    assert "expected 245 questions (the benchmark's key questions.swap_obj), found 2" in message
    assert "key questions; known are" in refused(spec(sugar, "sugar_crepe", questions={"swap_rel": 1}))


def test_bad_questions_are_named_or_left_out(sugar):
    file = sugar / "data/replace_att.json"
    file.write_text(json.dumps({"4": {"filename": "000000000285.jpg", "caption": "...", "negative_caption": "a"}}))
    (sugar / "data/add_att.json").write_text(json.dumps({"0": {"filename": 5}}))
    (sugar.parent / "coco/val2017/000000000632.jpg").unlink()
    message = refused(spec(sugar, "sugar_crepe"))
    assert "captions without words: 1 (replace_att.json: 4: '...' has no word)" in message
    assert "rows of another form: 1 (add_att.json: 0: expected a JSON object with a text as 'filename'" in message
    assert "images not there: 3 (" in message
    found = load_composition(spec(sugar, "sugar_crepe", pairs=8, partial=True))
    assert len(found.questions) == 3 and len(found.left_out.items) == 5
    assert found.macro == ("add_obj", "replace_obj", "swap_obj")
    file.write_text("[]")
    assert "replace_att.json: expected a JSON object of records by number, found []" in refused(
        spec(sugar, "sugar_crepe")
    )
    file.write_text('{"0": ')
    assert "is no whole JSON file" in refused(spec(sugar, "sugar_crepe"))


def test_captions_that_a_model_reads_alike_are_no_fault_of_a_set(sugar):
    record = {"filename": "000000000285.jpg", "caption": "A bear.", "negative_caption": "a  BEAR."}
    (sugar / "data/replace_att.json").write_text(json.dumps({"0": record}))
    assert len(load_composition(spec(sugar, "sugar_crepe", pairs=8)).questions) == 8


# ---------------------------------------------------------------------- Winoground


@pytest.mark.parametrize("inner", ["data", "."])
def test_winoground_has_two_pictures_and_two_captions(tmp_path, inner):
    published.write_winoground(tmp_path, inner)
    found = load_composition(spec(tmp_path, "winoground", pairs=3))
    assert [question.category for question in found.questions] == ["Object", "Relation", "Both"] and found.macro == ()
    assert [view.path.name for view in found.questions[1].views] == ["ex_1_img_0.png", "ex_1_img_1.png"]
    assert found.questions[2].captions == ("a mug in some grass", "some grass in a mug")
    with (tmp_path / inner / "examples.jsonl").open("a") as file:
        file.write('{"id": 3, "caption_0": "a"}\nnot json\n')
    assert "rows of another form: 2 (examples.jsonl:4" in refused(spec(tmp_path, "winoground"))


def test_sets_that_are_not_there_say_what_is_missing(tmp_path):
    for layout, more, file in (
        ("sugar_crepe", {}, "add_obj.json"),
        ("winoground", {"gated": True}, "examples.jsonl"),
        ("aro", {"name": "visual_genome_relation"}, "visual_genome_relation.json"),
    ):
        found = load_composition(spec(tmp_path / layout, layout, **more))
        assert isinstance(found, Missing) and f"{file} not found" in found.reason
        assert ("terms must be accepted" in found.reason) == (layout == "winoground")


# ---------------------------------------------------------------------- ARO


@pytest.fixture
def aro(tmp_path):
    published.write_aro(tmp_path / "aro")
    return tmp_path / "aro"


def test_the_relations_left_out_of_the_published_mean_are_those_of_the_notebook():
    assert hashlib.sha256("\n".join(sorted(SYMMETRIC)).encode()).hexdigest() == SYMMETRIC_DIGEST
    assert len(SYMMETRIC) == 157 and "near" in SYMMETRIC and "on" not in SYMMETRIC


def test_vg_relation_is_cut_out_by_its_box_as_pillow_does(aro):
    found = load_composition(spec(aro, "aro", name="visual_genome_relation", pairs=3))
    assert [question.category for question in found.questions] == ["on", "near", "on"] and found.macro == ("on",)
    assert found.questions[0].captions == ("the cup is on the table", "the table is on the cup")
    for question, box in zip(found.questions[::2], [(10, 5, 40, 25), (-4, 5, 66, 25)], strict=True):
        (view,) = question.views
        with Image.open(view.path) as image:
            expected = np.asarray(image.convert("RGB").crop(box))
        assert np.array_equal(np.asarray(view.picture), expected)
    assert not np.asarray(found.questions[2].views[0].picture)[:, :4].any(), "what lies outside is black"


def test_a_box_is_of_the_stored_pixels_whatever_the_orientation_tag(aro):
    path = aro / "images/1.jpg"
    with Image.open(path) as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
    question = load_composition(spec(aro, "aro", name="visual_genome_relation")).questions[0]
    assert question.views[0].picture.size == (30, 20)


def test_pairs_of_attributes_with_few_questions_are_not_in_the_published_mean(aro):
    entry = spec(aro, "aro", name="visual_genome_attribution")
    found = load_composition(entry)
    assert [question.category for question in found.questions] == ["old_red"] and found.macro == ()
    file = aro / "visual_genome_attribution.json"
    (record,) = json.loads(file.read_text())
    file.write_text(json.dumps([record] * 25 + [{**record, "attributes": ["wet", "dry"]}] * 24))
    assert load_composition(entry).macro == ("old_red",)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"bbox_w": 0},
            "visual_genome_relation.json: record 0: box 10, 5, 10, 25 (left, top, right, bottom) has no pixel",
        ),
        ({"bbox_x": 60}, "lies outside the picture of 60 x 40 pixels"),
        ({"bbox_h": 1000000}, "is far larger than the picture of 60 x 40 pixels"),
        ({"bbox_y": "5"}, "expected a JSON object with a number as 'bbox_y'"),
        ({"bbox_y": float("nan")}, "expected a JSON object with a number as 'bbox_y'"),
        ({"relation_name": None}, "expected a JSON object with a text as 'relation_name'"),
        ({"attributes": ["red"]}, "expected two texts as 'attributes', found ['red']"),
        ({"image_path": "9.jpg"}, "images not there: 1"),
    ],
)
def test_bad_records_of_aro_are_named(aro, change, message):
    file = aro / "visual_genome_relation.json"
    first, *others = json.loads(file.read_text())
    file.write_text(json.dumps([{**first, **change}, *others]))
    entry = spec(aro, "aro", name="visual_genome_relation", pairs=3)
    assert message in refused(entry)
    assert len(load_composition(entry.model_copy(update={"partial": True})).questions) == 2
    with pytest.raises(BadItemsError):
        load_composition(entry)


def test_a_file_of_another_form_is_refused(aro):
    (aro / "visual_genome_relation.json").write_text("{}")
    assert "expected a JSON list of records, found {}" in refused(spec(aro, "aro", name="visual_genome_relation"))
