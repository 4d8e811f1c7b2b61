"""What other systems leave in evaluation sets and make of their files: none of it stops a set, or is an error in one line."""

import json
import os
import pickle
import re
import shutil
from pathlib import Path

import pytest

from caft.data.sets import LOADERS, Missing
from caft.errors import DataError
from tests.data import published
from tests.data.published import reference
from tests.data.test_benchmarks import KINDS, spec
from tests.library.test_gallery import KEPT_BY_SYSTEMS

MARK = b"\xef\xbb\xbf"
LITTER = (".DS_Store", "._1.jpg", "._1.txt", "Thumbs.db", "thumbs.db", "desktop.ini", "._n01440764", ".hidden.JPEG")
FOLDERS = ("__MACOSX", *KEPT_BY_SYSTEMS)
WRITERS = {
    "urban1k": published.write_urban1k,
    "docci": published.write_docci,
    "dci": published.write_dci,
    "sharegpt4v": published.write_sharegpt4v,
    "iiw": published.write_iiw,
    "karpathy": lambda folder: published.write_karpathy(folder, "coco"),
    "refer": published.write_refer,
    "fg_ovd": published.write_fg_ovd,
    "imagenet": published.write_imagenet,
    "sugar_crepe": published.write_sugar_crepe,
    "winoground": published.write_winoground,
    "aro": published.write_aro,
    "voc": published.write_voc,
    "ade20k": published.write_ade20k,
}
MORE = {
    "sharegpt4v": {"first": 4},
    "refer": {"name": "refcoco", "split": "val"},
    "aro": {"name": "visual_genome_relation"},
}


def load(folder, layout, **more):
    benchmark = spec(folder, layout, **MORE.get(layout, {}), **more)
    return LOADERS[benchmark.kind](benchmark)


@pytest.fixture(params=WRITERS)
def written(request, tmp_path):
    """Folder and layout of a set, and what a loader finds in it."""
    folder = tmp_path / "here" / request.param
    WRITERS[request.param](folder)
    found = load(folder, request.param)
    assert not isinstance(found, Missing)
    return folder, request.param, found


def litter(folder: Path) -> None:
    """Writes what systems leave into every folder below one."""
    for place in [path for path in folder.rglob("*") if path.is_dir()]:
        for name in LITTER:
            (place / name).write_bytes(b"\0\1Mac OS X")
        for name in FOLDERS:
            (place / name).mkdir()
            (place / name / "1.jpg").write_bytes(b"\0")


def test_litter_in_every_folder_of_a_set_changes_nothing(written):
    folder, layout, found = written
    litter(folder.parent)
    assert load(folder, layout) == found


@pytest.mark.parametrize("extra", ["Unpacked", "Archive-main/data", "a/b/Unpacked"])
def test_a_set_in_an_extra_folder_is_named_and_read_once_it_is_moved_as_told(written, extra):
    folder, layout, found = written
    folder.rename(folder.with_name("moved"))
    (folder / extra).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder.with_name("moved"), folder / extra)
    (folder / "__MACOSX" / extra).mkdir(parents=True)
    (folder / "readme.txt").write_text("unpacked with care")
    missing = load(folder, layout)
    assert isinstance(missing, Missing)
    told = re.fullmatch(r"(.*) not found; it is in (.*): move what is in that folder to (.*)", missing.reason)
    assert told is not None, missing.reason
    assert (Path(told[2]), Path(told[3])) == (folder / extra, folder)
    for path in Path(told[2]).iterdir():
        shutil.move(path, Path(told[3]) / path.name)
    assert load(folder, layout) == found


def test_pictures_in_an_extra_folder_are_named(written):
    folder, layout, found = written
    pictures = [image.path for image in found.images] if layout == "refer" else found.images
    for picture in pictures:
        (picture.parent / "Unpacked").mkdir(exist_ok=True)
        picture.rename(picture.parent / "Unpacked" / picture.name)
    with pytest.raises(DataError) as refused:
        load(folder, layout)
    place = pictures[0].parent.name
    if layout in ("urban1k", "imagenet", "ade20k"):  # which take what is in a folder
        told = f"({place}/Unpacked: move its pictures up, into {place}"
    else:
        told = f"it is in {place}/Unpacked; move what is there up by one folder"
    assert told in str(refused.value)


def test_classes_in_an_extra_folder_are_named(tmp_path):
    published.write_imagenet(tmp_path)
    (tmp_path / "val").rename(tmp_path / "moved")
    (tmp_path / "val").mkdir()
    (tmp_path / "moved").rename(tmp_path / "val/ILSVRC2012")
    with pytest.raises(DataError, match=r"1 \(ILSVRC2012: .*names; move what is in it up by one folder\)"):
        load(tmp_path, "imagenet")


def test_a_class_without_images_is_named_and_counted(tmp_path):
    published.write_imagenet(tmp_path)
    for path in (tmp_path / "val/n02112018").iterdir():
        path.unlink()
    (tmp_path / "val/n02112018/notes.txt").touch()
    shutil.rmtree(tmp_path / "val/n01440764")
    with pytest.raises(DataError, match=r"classes without images: 2 \(n01440764: .*has no folder.*an empty folder"):
        load(tmp_path, "imagenet", classes=3, images=3)
    found = load(tmp_path, "imagenet", classes=3, partial=True)
    assert (len(found.classes), len(found.images), found.left_out.record()["dropped"]) == (3, 3, 2)


def test_a_folder_among_the_images_of_a_class_is_named_and_counted(tmp_path):
    published.write_imagenet(tmp_path)
    (tmp_path / "val/n02112018/more").mkdir()
    published.picture(tmp_path / "val/n02112018/more/ILSVRC2012_val_00000099.JPEG")
    (tmp_path / "val/n02112018/empty").mkdir()  # which loses nothing
    with pytest.raises(
        DataError, match=r"1 item cannot.*\n.*folders among the images: 1 \(n02112018/more: move its pic"
    ):
        load(tmp_path, "imagenet", images=6)
    found = load(tmp_path, "imagenet", images=6, partial=True)
    assert len(found.images) == 6 and found.left_out.record()["dropped"] == 1


def test_a_set_that_is_nowhere_is_said_to_be_got(written):
    folder, layout, _ = written
    folder.rename(folder.with_name("moved"))
    assert "not found; data/benchmarks/README.md says how to get it" in load(folder, layout).reason
    (folder / "Unpacked/other").mkdir(parents=True)
    assert "not found; data/benchmarks/README.md says how to get it" in load(folder, layout).reason


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(written):
    folder, layout, found = written
    texts = [path for path in folder.rglob("*") if path.suffix in {".json", ".jsonl", ".jsonlines", ".txt"}]
    assert texts
    for path in texts:
        path.write_bytes(MARK + path.read_bytes().rstrip(b"\n").replace(b"\n", b"\r\n") + b"\r\n\r\n \r\n")
    assert load(folder, layout) == found


def test_pictures_may_have_their_ending_in_capitals(written):
    folder, layout, found = written
    pictures = [image.path for image in found.images] if layout == "refer" else found.images
    for path in pictures:
        path.rename(path.with_suffix(".jpeg" if path.suffix == ".JPEG" else path.suffix.upper()))
    upper = load(folder, layout)
    images = [image.path for image in upper.images] if layout == "refer" else upper.images
    assert len(images) == len(found.images) and all(path.is_file() for path in images)
    assert {path.suffix for path in images} == {{"imagenet": ".jpeg", "winoground": ".PNG"}.get(layout, ".JPG")}
    if layout not in KINDS:
        assert (upper.captions, upper.truth) == (found.captions, found.truth)


def test_captions_may_have_their_ending_in_capitals(tmp_path):
    captions = published.write_urban1k(tmp_path)
    for path in (tmp_path / "caption").iterdir():
        path.rename(path.with_suffix(".TXT"))
    assert load(tmp_path, "urban1k", pairs=3).captions == captions


def test_a_link_to_nothing_is_one_picture_that_is_not_there(written):
    folder, layout, found = written
    first = found.images[0].path if layout == "refer" else found.images[0]
    first.unlink()
    os.symlink("nowhere", first)
    with pytest.raises(DataError, match=r"images not there: \d+ \(.*a link to nothing"):
        load(folder, layout)
    lost = 2 if layout == "winoground" else 1  # whose question has another picture
    assert len(load(folder, layout, partial=True).images) == len(found.images) - lost


def test_pictures_may_be_links(written):
    folder, layout, found = written
    first = found.images[0].path if layout == "refer" else found.images[0]
    first.rename(folder / "elsewhere")
    os.symlink(folder / "elsewhere", first)
    assert load(folder, layout) == found


def test_files_beside_the_classes_are_no_images(tmp_path):
    published.write_imagenet(tmp_path)
    (tmp_path / "val/LOC_val_solution.csv").write_text("a,b")
    (tmp_path / "val/n01440764/README.txt").write_text("x")
    assert len(load(tmp_path, "imagenet", images=6).images) == 6
    (tmp_path / "val/n00000000").mkdir()
    with pytest.raises(DataError, match=r"folders or images of no class: 1 \(n00000000"):
        load(tmp_path, "imagenet")
    assert len(load(tmp_path, "imagenet", images=6, partial=True).images) == 6


# ---- JSON of another shape

SHAPES = [
    [],
    {},
    None,
    5,
    "text",
    [1],
    [[]],
    [None],
    {"images": 5, "annotations": None},
    {"images": [], "annotations": {}},
]


FILES = {
    "dci": "splits.json",
    "sharegpt4v": "share-captioner_coco_lcs_sam_1246k_1107.json",
    "refer": "instances.json",
    "karpathy": "dataset_coco.json",
    "fg_ovd": "2_attributes.json",
    "docci": "docci_descriptions.jsonlines",
    "iiw": "data.jsonl",
    "sugar_crepe": "replace_att.json",
    "winoground": "examples.jsonl",
    "aro": "visual_genome_relation.json",
}


@pytest.mark.parametrize("layout", FILES)
@pytest.mark.parametrize("content", SHAPES, ids=str)
def test_a_file_of_another_shape_is_one_error_that_names_it(tmp_path, layout, content):
    folder = tmp_path / "here" / layout
    WRITERS[layout](folder)
    for file in folder.rglob(FILES[layout]):
        file.write_text(json.dumps(content))
    with pytest.raises(DataError) as error:
        load(folder, layout)
    message = str(error.value)
    assert FILES[layout] in message or f"{folder}: expected pairs, found none" in message
    assert len(message.splitlines()) <= 10


def values_of(content, path=()):
    """Paths of all values of a JSON file, of a list only the first and the last."""
    entries = content.items() if isinstance(content, dict) else list(enumerate(content))[:: max(1, len(content) - 1)]
    for key, value in entries:
        yield (*path, key)
        if isinstance(value, dict | list) and value:
            yield from values_of(value, (*path, key))


@pytest.mark.parametrize("layout", ["dci", "sharegpt4v", "karpathy", "refer", "fg_ovd", "sugar_crepe", "aro"])
@pytest.mark.parametrize("value", [None, "7", -1, 1e30, [], {}, [[1]], "gone"], ids=str)
@pytest.mark.parametrize("partial", [False, True])
def test_any_value_of_another_kind_is_taken_or_one_error(tmp_path, layout, value, partial):
    """No other exception than a DataError, whatever stands where."""
    folder = tmp_path / "here" / layout
    WRITERS[layout](folder)
    chosen = "visual_genome_r" if layout == "aro" else tuple("7dsi2")
    file = next(path for path in sorted(folder.rglob("*.json")) if path.name.startswith(chosen))
    whole = json.loads(file.read_text())
    for path in list(values_of(whole)):
        changed = json.loads(json.dumps(whole))
        place = changed
        for key in path[:-1]:
            place = place[key]
        if value == "gone":
            del place[path[-1]]
        else:
            place[path[-1]] = value
        file.write_text(json.dumps(changed))
        try:
            found = load(folder, layout, partial=partial)
        except DataError as error:
            assert len(str(error).splitlines()) <= 10 and str(folder.parent) in str(error)
        else:
            for image in found.images if layout == "refer" else []:
                assert all(mask.any() for mask in image.masks.values()) and image.picture.size == (60, 40)


def test_numbers_as_texts_name_file_and_item(tmp_path):
    published.write_fg_ovd(tmp_path / "fg_ovd")
    file = tmp_path / "fg_ovd/1_attributes.json"
    content = json.loads(file.read_text())
    content["images"][0]["height"] = "40"
    file.write_text(json.dumps(content))
    with pytest.raises(
        DataError, match="1_attributes.json: annotation 0: expected a JSON object with a whole number as 'hei"
    ):
        load(tmp_path / "fg_ovd", "fg_ovd")


@pytest.mark.parametrize("key", ["image_id", "ann_id", "split"])
def test_references_without_a_number_are_named(tmp_path, key):
    folder = published.write_refer(tmp_path / "refer")
    references = [reference(1, 12, 7, "val", "a"), reference(2, 11, 7, "val", "b")]
    references[1][key] = None
    (folder / "refs(unc).p").write_bytes(pickle.dumps(references, protocol=2))
    if key == "split":
        assert len(load(tmp_path / "refer", "refer").images[0].expressions) == 1
    else:
        with pytest.raises(DataError, match=r"rows of another form: 1 \(reference 1: expected numbers"):
            load(tmp_path / "refer", "refer")
