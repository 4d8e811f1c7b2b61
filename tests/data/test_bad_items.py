"""Items of evaluation sets that cannot be scored: named at load, all at once; left out of a partial set, and counted."""

import importlib.util
import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from caft.captions.sentences import SPLITTERS, split
from caft.captions.tokenizer import encode
from caft.captions.words import unreadable
from caft.data.sets import load_referring, load_regions, load_retrieval, load_zero_shot
from caft.data.sets.masks import decode_mask
from caft.errors import DataError
from tests.data import published
from tests.data.published import reference
from tests.data.test_benchmarks import spec

_HEIF = importlib.util.find_spec("pillow_heif") is not None
WORDLESS = ["", " \n", ".", "...", "</s>", "&nbsp;", "\u200b", "?!", "\ufeff"]


def refused(load, entry):
    """The message of a set that is refused: a few lines, and no other error."""
    with pytest.raises(DataError) as error:
        load(entry)
    lines = str(error.value).splitlines()
    assert len(lines) <= 10 and all(len(line) < 1000 for line in lines)
    return str(error.value)


# ---- texts


@pytest.mark.parametrize("text", WORDLESS)
def test_a_text_without_a_word_is_unreadable(text):
    assert unreadable(text)


@pytest.mark.parametrize("text", ["a", "7", "红色的门", "é", "🐈", ". a", "</s>x", "St."])
def test_what_has_a_word_is_readable_and_both_splitters_find_a_sentence(text):
    assert unreadable(text) is None
    assert all(split(text, splitter) for splitter in SPLITTERS) and encode(text)


def test_half_a_surrogate_is_no_text():
    assert unreadable("a \ud83c cat") == "is no valid Unicode"


@pytest.mark.parametrize("text", WORDLESS)
def test_a_caption_without_words_is_named_and_a_partial_set_goes_without(tmp_path, text):
    published.write_urban1k(tmp_path / "urban1k", {**published.CAPTIONS, 592: text})
    folder = tmp_path / "urban1k"
    message = refused(load_retrieval, spec(folder, "urban1k", pairs=4))
    assert "captions without words: 1 (592: " in message and "a known copy lost it" in message
    found = load_retrieval(spec(folder, "urban1k", pairs=4, partial=True))
    assert found.ids == ["1", "2", "10"] and found.expected == 4
    record = found.left_out.record()
    assert record["dropped"] == 1 and record["dropped_items"][0].startswith("captions without words: 1 (592: ")


def test_an_image_keeps_its_other_captions(tmp_path):
    captions = published.write_karpathy(tmp_path, "coco")
    file = tmp_path / "dataset_coco.json"
    content = json.loads(file.read_text())
    content["images"][1]["sentences"][2]["raw"] = "."
    for sentence in content["images"][4]["sentences"]:
        sentence["raw"] = None
    file.write_text(json.dumps(content))
    entry = {"captions": 5, "pairs": 10, "images": 2}
    assert "captions without words: 6 (000000000001.jpg#2" in refused(
        load_retrieval, spec(tmp_path, "karpathy", **entry)
    )
    found = load_retrieval(spec(tmp_path, "karpathy", **entry, partial=True))
    assert found.captions == [text for place, text in enumerate(captions[0]) if place != 2]
    assert found.truth == [0] * 4 and found.left_out.record()["dropped"] == 6


def test_dci_takes_a_null_for_an_empty_text(tmp_path):
    captions = published.write_dci(tmp_path / "dci")
    file = tmp_path / "dci/densely_captioned_images/annotations/11-data.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "extra_caption": None}))
    found = load_retrieval(spec(tmp_path / "dci", "dci", pairs=5))
    assert found.captions == [captions[0], "A house with 11 windows.", *captions[2:]]
    file.write_text(json.dumps({**json.loads(file.read_text()), "short_caption": None}))
    assert "captions without words: 1 (11-data.json: is empty)" in refused(
        load_retrieval, spec(tmp_path / "dci", "dci")
    )


# ---- all at once


def test_all_that_is_wrong_is_in_one_short_message(tmp_path):
    captions = {number: f"Picture {number}." for number in range(1, 31)}
    published.write_urban1k(tmp_path, captions | {7: "", 8: "."})
    for number in range(10, 25):
        (tmp_path / f"image/{number}.jpg").unlink()
    (tmp_path / "image/25.jpg").write_bytes(b"<html>")
    (tmp_path / "caption/26.txt").write_bytes(b"caf\xe9")
    (tmp_path / "caption/x.txt").write_text("X.")
    published.picture(tmp_path / "image/x.jpg")
    (tmp_path / "image/27.jpg").unlink()
    (tmp_path / "image/27.jpg").symlink_to(tmp_path / "nowhere.jpg")
    message = refused(load_retrieval, spec(tmp_path, "urban1k", pairs=30))
    assert "21 items cannot be scored" in message
    for part in ("partner: 15 (10: ", "words: 2 (7: is empty; 8: '.' has no word)", "numbers: 1 (x.txt)",
                 "not there: 1 (", "27.jpg: a link to nothing", "cannot be read: 1 (26: is not UTF-8", "25.jpg: it is a web",
                 "partial: true", "pipelines.sets --check"):  # fmt: skip
        assert part in message, part
    found = load_retrieval(spec(tmp_path, "urban1k", pairs=30, partial=True))
    assert found.ids == [str(n) for n in (*range(1, 7), 9, 28, 29, 30)]
    assert found.left_out.record()["dropped"] == 21


def test_a_set_of_nothing_but_bad_items_is_refused_also_as_partial(tmp_path):
    published.write_urban1k(tmp_path, {1: ".", 2: ""})
    message = refused(load_retrieval, spec(tmp_path, "urban1k", pairs=2, partial=True))
    assert "expected pairs, found none" in message and "captions without words: 2" in message


# ---- pictures


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def empty(path):
    path.write_bytes(b"")


def page(path):
    path.write_text("<!doctype html><title>404</title>")


def pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")


def folder(path):
    path.unlink()
    path.mkdir()


def link_to_itself(path):
    path.unlink()
    path.symlink_to(path.name)


@pytest.mark.parametrize("damage", [cut, empty, page, pointer, folder, link_to_itself])
@pytest.mark.parametrize("layout", ["docci", "refer", "fg_ovd", "imagenet"])
def test_a_picture_that_cannot_be_read_is_found_at_load(tmp_path, layout, damage):
    load, path, entry, left = {
        "docci": (load_retrieval, "images/test_00001.jpg", {}, lambda s: len(s.images) == 2),
        "refer": (load_referring, "images/train2014/COCO_train2014_000000000003.jpg", {"name": "refcoco", "split": "val"},
                  lambda s: [i.path.name[-5] for i in s.images] == ["7"]),
        "fg_ovd": (load_regions, "../coco/val2017/000000000009.jpg", {}, lambda s: len(s.regions["hard"]) == 1),
        "imagenet": (load_zero_shot, "val/n01440764/ILSVRC2012_val_00000000.JPEG", {}, lambda s: s.labels == [2, 2, 2, 1, 1]),
    }[layout]  # fmt: skip
    {
        "docci": published.write_docci,
        "refer": published.write_refer,
        "fg_ovd": published.write_fg_ovd,
        "imagenet": published.write_imagenet,
    }[layout](tmp_path / "set")
    damage((tmp_path / "set" / path).resolve())
    message = refused(load, spec(tmp_path / "set", layout, **entry))
    assert path.rsplit("/", 1)[1] in message and "images " in message
    assert left(load(spec(tmp_path / "set", layout, **entry, partial=True)))


@pytest.mark.parametrize(
    "head, words",
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!doctype html><title>404</title>", "it is a web page"),
        pytest.param(
            b"\0\0\0\x18ftyphevc\0\0\0\0",
            "pip install pillow-heif",
            marks=pytest.mark.skipif(_HEIF, reason="the plug-in is installed"),
        ),
    ],
)
def test_what_is_no_picture_is_named_with_what_to_do(tmp_path, head, words):
    published.write_docci(tmp_path)
    (tmp_path / "images/test_00001.jpg").write_bytes(head)
    assert words in refused(load_retrieval, spec(tmp_path, "docci"))


@pytest.mark.skipif(not _HEIF, reason="needs the plug-in pillow-heif")
@pytest.mark.parametrize("layout", ["docci", "fg_ovd"])
def test_a_format_of_a_plug_in_is_scored_where_it_is_installed(tmp_path, layout):
    """In a process of its own: the plug-in is in no other's way there, and not in this one's."""
    folder, load = tmp_path / "set", {"docci": "load_retrieval", "fg_ovd": "load_regions"}[layout]
    published.write_docci(folder) if layout == "docci" else published.write_fg_ovd(folder)
    first = folder / "images/test_00001.jpg" if layout == "docci" else tmp_path / "coco/val2017/000000000009.jpg"
    code = f"""if True:
        import pillow_heif
        from PIL import Image
        pillow_heif.from_pillow(Image.open({str(first)!r})).save({str(first)!r}, format="HEIF")
        from caft.data.sets import {load}
        from tests.data.test_benchmarks import spec
        from pathlib import Path
        print(len({load}(spec(Path({str(folder)!r}), {layout!r})).images))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["3" if layout == "docci" else "2"], done.stderr


def test_other_formats_and_what_follows_the_end_of_a_file_are_no_damage(tmp_path):
    published.write_docci(tmp_path)
    first, second, third = (tmp_path / f"images/test_0000{n}.jpg" for n in range(3))
    first.write_bytes(first.read_bytes() + b"\0" * 500)
    Image.open(second).save(second, "WEBP")
    Image.fromarray(np.full((40, 60), 40000, np.uint16)).save(third, "PNG")
    assert len(load_retrieval(spec(tmp_path, "docci", pairs=3)).images) == 3


@pytest.mark.parametrize("name", ["7.webp", "7.TIF", "7.jfif", "7.heic", "7.jxl"])
def test_a_picture_with_an_ending_that_is_not_read_is_not_passed_over_in_silence(tmp_path, name):
    published.write_imagenet(tmp_path / "imagenet")
    (tmp_path / "imagenet/val/n02112018" / name).touch()
    message = refused(load_zero_shot, spec(tmp_path / "imagenet", "imagenet", images=6))
    assert "1 item cannot be scored" in message and f"images with another ending: 1 (n02112018/{name}: " in message
    found = load_zero_shot(spec(tmp_path / "imagenet", "imagenet", images=6, partial=True))
    assert len(found.images) == 6 and found.left_out.record()["dropped"] == 1
    published.write_urban1k(tmp_path / "urban1k", {1: "One.", 7: "Seven."})
    (tmp_path / "urban1k/image/7.jpg").rename(tmp_path / "urban1k/image" / name)
    message = refused(load_retrieval, spec(tmp_path / "urban1k", "urban1k", pairs=2))
    assert "1 item cannot be scored" in message and f"images with another ending: 1 (image/{name}: " in message
    (tmp_path / "urban1k/caption/7.txt").unlink()  # then it is an image without a caption as well
    assert f"(image/{name}: " in refused(load_retrieval, spec(tmp_path / "urban1k", "urban1k", pairs=1))
    found = load_retrieval(spec(tmp_path / "urban1k", "urban1k", partial=True))
    assert found.captions == ["One."] and found.left_out.record()["dropped"] == 1


def test_a_picture_of_no_class_is_named_whatever_its_ending(tmp_path):
    published.write_imagenet(tmp_path)
    (tmp_path / "val/1.webp").touch()
    assert "folders or images of no class: 1 (1.webp: " in refused(load_zero_shot, spec(tmp_path, "imagenet"))


def test_a_second_file_of_an_image_that_is_read_is_no_loss(tmp_path):
    captions = published.write_urban1k(tmp_path)
    published.picture(tmp_path / "image/1.png")
    published.picture(tmp_path / "image/2.webp")
    found = load_retrieval(spec(tmp_path, "urban1k", pairs=3))
    assert found.captions == captions and [path.name for path in found.images] == ["1.jpg", "2.jpg", "10.jpg"]


# ---- referring expressions


@pytest.fixture
def refer(tmp_path):
    return published.write_refer(tmp_path / "refer")


def of(refer, **more):
    return spec(refer.parent, "refer", **{"name": "refcoco", "split": "val", **more})


def change(refer, number, **values):
    """Changes an annotation."""
    content = json.loads((refer / "instances.json").read_text())
    next(entry for entry in content["annotations"] if entry["id"] == number).update(values)
    (refer / "instances.json").write_text(json.dumps(content))


@pytest.mark.parametrize("text", [*WORDLESS, None])
def test_an_expression_without_words_is_no_zero(refer, text):
    references = [reference(1, 12, 7, "val", "the right one"), reference(2, 11, 7, "val", "both squares", "x")]
    references[1]["sentences"][1]["sent"] = text
    (refer / "refs(unc).p").write_bytes(pickle.dumps(references, protocol=2))
    assert "expressions without words: 1 (COCO_train2014_000000000007.jpg, annotation 11" in refused(
        load_referring, of(refer, pairs=3)
    )
    found = load_referring(of(refer, pairs=3, partial=True))
    assert [e.text for e in found.images[0].expressions] == ["the right one", "both squares"]
    assert found.left_out.record()["dropped"] == 1 and found.expected == 3


def test_a_reference_without_sentences_is_not_lost_in_silence(refer):
    references = [reference(1, 12, 7, "val", "the right one"), reference(2, 11, 7, "val")]
    (refer / "refs(unc).p").write_bytes(pickle.dumps(references, protocol=2))
    assert "expressions without words: 1 (" in refused(load_referring, of(refer))


BROKEN = [
    [[5, 5, 5, 5, 5, 5]],  # a point: no pixel
    [[-90, -90, -80, -90, -80, -80]],  # outside
    {"size": [40, 60], "counts": [2400]},
    {"size": [60, 40], "counts": [0, 2400]},
    {"size": [40, 60], "counts": [0, "many"]},
    {"size": 40, "counts": [0, 2400]},
    [[1, 2, 3, 4]],
    [["a", 2, 3, 4, 5, 6]],
    [[1, 2, None, 4, 5, 6]],
    [],
    None,
    "polygon",
]


@pytest.mark.parametrize("segmentation", BROKEN, ids=str)
def test_an_object_without_a_mask_takes_its_expressions_with_it(refer, segmentation):
    change(refer, 12, segmentation=segmentation)
    assert "expressions of an object without a mask: 3 (COCO_train2014_000000000007.jpg, annotation 12" in refused(
        load_referring, of(refer, pairs=5)
    )
    edge, two = load_referring(of(refer, pairs=5, partial=True)).images
    assert (
        [e.text for e in two.expressions] == ["both squares"] and list(two.masks) == [11] and list(edge.masks) == [21]
    )


@pytest.mark.parametrize("segmentation", BROKEN, ids=str)
def test_an_object_that_no_expression_means_is_skipped_and_counted(refer, segmentation):
    change(refer, 11, segmentation=segmentation)
    references = [reference(1, 12, 7, "val", "the right one")]
    (refer / "refs(unc).p").write_bytes(pickle.dumps(references, protocol=2))
    found = load_referring(of(refer, pairs=1))  # only a control is less
    assert list(found.images[0].masks) == [12] and list(found.images[0].categories) == [12]
    assert found.left_out.record() == {"skipped_objects": 1}


@pytest.mark.parametrize("number", [None, "11", [11]])
def test_an_object_without_a_number_is_skipped_and_counted(refer, number):
    change(refer, 11, id=number)
    references = [reference(1, 12, 7, "val", "the right one")]
    (refer / "refs(unc).p").write_bytes(pickle.dumps(references, protocol=2))
    found = load_referring(of(refer, pairs=1))
    assert list(found.images[0].masks) == [12] and found.left_out.record() == {"skipped_objects": 1}


@pytest.mark.parametrize("name", [None, 5, "", "."])
def test_a_category_without_a_name_is_none_of_its_objects(refer, name):
    content = json.loads((refer / "instances.json").read_text())
    content["categories"][0]["name"] = name
    (refer / "instances.json").write_text(json.dumps(content))
    assert all(image.categories == {} for image in load_referring(of(refer, pairs=5)).images)


def test_areas_of_whole_masks_are_no_bad_items(refer):
    found = load_referring(of(refer, pairs=5))
    assert found.left_out.record() == {}
    for image in found.images:
        for number, form in image.segmentations.items():
            assert np.array_equal(image.masks[number], decode_mask(form, 40, 60)) and image.masks[number].any()


# ---- boxes


@pytest.mark.parametrize(
    "values",
    [
        {"bbox": [5, 5, 0, 2]}, {"bbox": [5, 5, 3, -2]}, {"bbox": [math.nan, 5, 3, 2]}, {"bbox": [5, 5, math.inf, 2]},
        {"bbox": [30, 5, 3, 2]}, {"bbox": [5, 50, 3, 2]}, {"bbox": [-9, 5, 9, 2]}, {"bbox": [5, 5, 3]},
        {"bbox": ["5", "5", "3", "2"]}, {"bbox": None}, {"bbox": {"x": 5}}, {"category_id": 999}, {"category_id": [1]},
        {"neg_category_ids": []}, {"neg_category_ids": [[1]]}, {"neg_category_ids": None}, {"image_id": "9"},
        {"image_id": 8}, {"image_id": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_box_of_another_form_is_named_and_a_partial_set_goes_without(tmp_path, values):
    published.write_fg_ovd(tmp_path / "fg_ovd")
    file = tmp_path / "fg_ovd/2_attributes.json"
    content = json.loads(file.read_text())
    content["annotations"][1].update(values)
    file.write_text(json.dumps(content))
    entry = {"boxes": dict.fromkeys(("hard", "medium", "easy", "trivial"), 2)}
    message = refused(load_regions, spec(tmp_path / "fg_ovd", "fg_ovd", **entry))
    assert "boxes of another form: 1 (2_attributes.json: annotation 1: " in message
    found = load_regions(spec(tmp_path / "fg_ovd", "fg_ovd", **entry, partial=True))
    assert [len(rows) for rows in found.regions.values()] == [2, 1, 2, 2]
    assert found.left_out.record()["dropped"] == 1


@pytest.mark.parametrize("role", ["category_id", "neg_category_ids"])
@pytest.mark.parametrize("text", [*WORDLESS, None, 5])
def test_a_description_without_words_is_named(tmp_path, role, text):
    published.write_fg_ovd(tmp_path / "fg_ovd")
    file = tmp_path / "fg_ovd/3_attributes.json"
    content = json.loads(file.read_text())
    content["categories"].append({"id": 250, "name": text})
    content["annotations"][1][role] = 250 if role == "category_id" else [202, 250]
    file.write_text(json.dumps(content))
    assert "3_attributes.json: annotation 1: " in refused(load_regions, spec(tmp_path / "fg_ovd", "fg_ovd"))
    assert len(load_regions(spec(tmp_path / "fg_ovd", "fg_ovd", partial=True)).regions["easy"]) == 1


@pytest.mark.parametrize("text", ["2_attributes 3", " 2_Attributes  3", "2_attributes&nbsp;3"])
@pytest.mark.parametrize("same", [True, False])
def test_a_box_whose_description_is_among_the_false_ones_cannot_be_won_and_is_named(tmp_path, text, same):
    """By its number, or by another category of equal text."""
    published.write_fg_ovd(tmp_path / "fg_ovd")
    file = tmp_path / "fg_ovd/2_attributes.json"
    content = json.loads(file.read_text())
    number = content["annotations"][0]["category_id"]
    content["categories"].append({"id": 150, "name": text})
    content["annotations"][0]["neg_category_ids"][-1] = number if same else 150
    file.write_text(json.dumps(content))
    message = refused(load_regions, spec(tmp_path / "fg_ovd", "fg_ovd"))
    assert "boxes of another form: 1 (2_attributes.json: annotation 0: its description, '2_attributes 3', is" in message
    found = load_regions(spec(tmp_path / "fg_ovd", "fg_ovd", partial=True))
    assert [len(rows) for rows in found.regions.values()] == [2, 1, 2, 2]


@pytest.mark.parametrize("words, is_lost", [(80, True), (70, False)])  # each one token, and a model reads 75
def test_a_description_that_differs_only_where_no_model_reads_cannot_be_won(tmp_path, words, is_lost):
    published.write_fg_ovd(tmp_path / "fg_ovd")
    file = tmp_path / "fg_ovd/2_attributes.json"
    content = json.loads(file.read_text())
    content["categories"] += [{"id": 150, "name": "cat " * words + "red"}, {"id": 151, "name": "cat " * words + "blue"}]
    content["annotations"][0]["category_id"] = 150
    content["annotations"][0]["neg_category_ids"][-1] = 151
    file.write_text(json.dumps(content))
    found = load_regions(spec(tmp_path / "fg_ovd", "fg_ovd", partial=True))
    assert len(found.regions["hard"]) == 2 and len(found.regions["medium"]) == 2 - is_lost


def test_a_file_whose_boxes_are_all_bad_is_not_run_in_a_partial_set(tmp_path):
    published.write_fg_ovd(tmp_path / "fg_ovd")
    file = tmp_path / "fg_ovd/3_attributes.json"
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        annotation["bbox"] = [0, 0, 0, 0]
    file.write_text(json.dumps(content))
    assert "boxes of another form: 2" in refused(load_regions, spec(tmp_path / "fg_ovd", "fg_ovd"))
    found = load_regions(spec(tmp_path / "fg_ovd", "fg_ovd", partial=True))
    assert list(found.regions) == ["hard", "medium", "trivial"] and "easy" in found.skipped


def test_a_box_that_reaches_out_of_the_picture_is_one(tmp_path):
    published.write_fg_ovd(tmp_path / "fg_ovd")
    file = tmp_path / "fg_ovd/3_attributes.json"
    content = json.loads(file.read_text())
    content["annotations"][1]["bbox"] = [-3, 48.5, 4, 9]
    file.write_text(json.dumps(content))
    assert load_regions(spec(tmp_path / "fg_ovd", "fg_ovd", pairs=8)).regions["easy"][1].box == (-3, 48.5, 4, 9)


# ---- classes


@pytest.mark.parametrize("line", ["n02112018", "n02112018 ", "n02112018 .", "n01440764 Pomeranian"])
def test_a_class_without_a_name_of_its_own_is_named(tmp_path, line):
    published.write_imagenet(tmp_path)
    (tmp_path / "classnames.txt").write_text(f"n01440764 tench\n{line}\nn01443537 St. Bernard dog\n")
    message = refused(load_zero_shot, spec(tmp_path, "imagenet", classes=3, images=6))
    assert "classes without a name of their own: 1 (classnames.txt:2" in message and "n02112018" in message
    found = load_zero_shot(spec(tmp_path, "imagenet", classes=3, images=6, partial=True))
    assert found.classes == ["tench", "St. Bernard dog"] and sorted(found.labels) == [0, 1, 1, 1]
    assert found.left_out.record()["dropped"] == 2  # the name, and the folder of its images
