"""Scores without the images that were trained on: those of sets that are cut by hand, of every kind."""

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caft.data.sets import load_retrieval
from caft.data.training.overlap import PAIRS
from caft.errors import DataError
from caft.eval.leaked import read_leaked
from caft.eval.scores import referring_sets, regions, retrieval_sets
from caft.eval.without import without
from caft.params.sets import BenchmarkParams
from tests.data import published
from tests.eval.test_sets import settings

CAPTIONS = {**published.CAPTIONS, 3: "A dog runs. A tree.", 4: "A hen. Grass and a fence."}


def scored(module, model, params, leaked):
    found = module.score_benchmarks(params, model, leaked)
    return found[0] if isinstance(found, tuple) else found


def same(entry, other):
    """Equal but for what only a whole set has; scores to rounding, as other batches may round otherwise."""
    assert entry.keys() == other.keys()
    for key, value in entry.items():
        if isinstance(value, dict):
            same(value, other[key])
        else:
            assert value == pytest.approx(other[key], abs=1e-3), key


def test_retrieval_without_leaked_images_is_that_of_the_set_without_their_pairs(model, tmp_path):
    published.write_urban1k(tmp_path / "whole", CAPTIONS)
    published.write_urban1k(tmp_path / "cut", {n: text for n, text in CAPTIONS.items() if n not in (2, 10)})
    (tmp_path / "whole/groups.csv").write_text("id,group,kind\n1,a,size\n2,a,size\n3,a,size\n4,b,size\n10,b,size\n")
    (tmp_path / "cut/groups.csv").write_text("id,group,kind\n1,a,size\n3,a,size\n")
    leaked = {"urban1k": {"image/2.jpg", "image/10.jpg", "image/77.jpg"}}
    whole = settings(tmp_path, urban1k={"path": str(tmp_path / "whole"), "pairs": 5})
    scores, curve = retrieval_sets.score_benchmarks(whole, model, leaked)
    plain, plain_curve = retrieval_sets.score_benchmarks(whole, model)
    entry = scores["urban1k"]
    assert entry["leaked_images"] == 2 and curve == plain_curve
    rest = entry.pop("without_leaked")
    assert {key: value for key, value in entry.items() if key != "leaked_images"} == plain["urban1k"]
    cut = settings(tmp_path, urban1k={"path": str(tmp_path / "cut"), "pairs": 3})
    same(rest, scored(retrieval_sets, model, cut, None)["urban1k"])
    assert (rest["pairs"], rest["by_kind"]["size"]["queries"]) == (3, 2)


def test_captions_of_a_leaked_image_all_leave(tmp_path):
    published.write_karpathy(tmp_path, "coco")
    found = load_retrieval(BenchmarkParams(kind="retrieval", layout="karpathy", path=str(tmp_path), split="test"))
    assert found.truth is not None
    gone = found.images[0].relative_to(tmp_path)
    count, rest = without(found, tmp_path, {str(gone)})
    kept = [n for n, owner in enumerate(found.truth) if owner != 0]
    assert count == 1 and rest.images == found.images[1:]
    assert rest.captions == [found.captions[n] for n in kept] and rest.ids == [found.ids[n] for n in kept]
    assert [rest.images[owner] for owner in rest.truth] == [found.images[found.truth[n]] for n in kept]


def test_expressions_on_leaked_images_leave(model, tmp_path):
    published.write_refer(tmp_path / "whole")
    file = published.write_refer(tmp_path / "cut") / "refs(unc).p"
    cut = [row for row in pickle.loads(file.read_bytes()) if row["image_id"] != 3]
    file.write_bytes(pickle.dumps(cut, protocol=2))
    changes = {"references": None, "images": None, "pairs": None}
    whole = settings(tmp_path, refcoco_val={"path": str(tmp_path / "whole"), **changes})
    leaked = {"refcoco_val": {"images/train2014/COCO_train2014_000000000003.jpg"}}
    scores, rows = referring_sets.score_benchmarks(whole, model, leaked)
    assert len(rows["refcoco_val"]) == 4 * scores["refcoco_val"]["expressions"] == 4 * 5
    entry = scores["refcoco_val"]
    assert entry["leaked_images"] == 1
    by_hand = settings(tmp_path, refcoco_val={"path": str(tmp_path / "cut"), **changes})
    same(entry["without_leaked"], scored(referring_sets, model, by_hand, None)["refcoco_val"])


def test_boxes_in_leaked_images_leave(model, tmp_path):
    for name in ("whole", "cut"):
        published.write_fg_ovd(tmp_path / name / "fg_ovd")
    for file in (tmp_path / "cut/fg_ovd").glob("*.json"):
        content = json.loads(file.read_text())
        content["annotations"] = [row for row in content["annotations"] if row["image_id"] != 4]
        content["images"] = [image for image in content["images"] if image["id"] != 4]
        file.write_text(json.dumps(content))
    levels = ("hard", "medium", "easy", "trivial")
    changes = {"boxes": dict.fromkeys(levels)}
    whole = settings(tmp_path, fg_ovd={"path": str(tmp_path / "whole/fg_ovd"), **changes})
    entry = scored(regions, model, whole, {"fg_ovd": {"../coco/train2017/000000000004.jpg"}})["fg_ovd"]
    assert entry["leaked_images"] == 1 and entry["rows"] == 8 and entry["without_leaked"]["rows"] == 4
    by_hand = settings(tmp_path, fg_ovd={"path": str(tmp_path / "cut/fg_ovd"), **changes})
    same(entry["without_leaked"], scored(regions, model, by_hand, None)["fg_ovd"])


def test_classes_of_leaked_images_stay_and_the_images_leave(model, tmp_path):
    for name in ("whole", "cut"):
        published.write_imagenet(tmp_path / name)
    gone = "val/n02112018/ILSVRC2012_val_00000010.JPEG"
    (tmp_path / "cut" / gone).unlink()
    counts = {"images": None, "classes": None}
    whole = settings(tmp_path, imagenet={"path": str(tmp_path / "whole"), **counts})
    entry = scored(retrieval_sets, model, whole, {"imagenet": {gone}})["imagenet"]
    assert (entry["images"], entry["leaked_images"]) == (6, 1)
    by_hand = settings(tmp_path, imagenet={"path": str(tmp_path / "cut"), **counts})
    same(entry["without_leaked"], scored(retrieval_sets, model, by_hand, None)["imagenet"])


def test_questions_about_leaked_pictures_leave_with_their_categories(model, tmp_path):
    cut = tmp_path / "cut/sugar_crepe/data"
    for name in ("whole", "cut"):
        published.write_sugar_crepe(tmp_path / name / "sugar_crepe")
    for file in cut.glob("*.json"):  # two of the three pictures stay, with five of the eight questions
        records = {n: row for n, row in json.loads(file.read_text()).items() if row["filename"] != "000000000632.jpg"}
        file.write_text(json.dumps(records)) if records else file.unlink()
    kept = ("add_obj", "add_att", "replace_obj", "replace_att", "swap_obj")
    changes = {"pairs": None, "questions": {}}
    whole = settings(tmp_path, sugar_crepe={"path": str(tmp_path / "whole/sugar_crepe"), **changes})
    leaked = {"sugar_crepe": {"../coco/val2017/000000000632.jpg"}}
    entry = scored(retrieval_sets, model, whole, leaked)["sugar_crepe"]
    assert (entry["questions"], entry["leaked_images"]) == (8, 1)
    changes = {"pairs": None, "questions": dict.fromkeys(kept)}
    by_hand = settings(tmp_path, sugar_crepe={"path": str(tmp_path / "cut/sugar_crepe"), **changes})
    rest = entry["without_leaked"]
    same(rest, scored(retrieval_sets, model, by_hand, None)["sugar_crepe"])
    assert rest["questions"] == 5 and set(rest["accuracy"]["whole"]["by_category"]) == set(kept)


def test_a_question_of_two_pictures_leaves_with_either(model, tmp_path):
    for name in ("whole", "cut"):
        published.write_winoground(tmp_path / name)
    file = tmp_path / "cut/data/examples.jsonl"
    file.write_text(file.read_text().splitlines(keepends=True)[1])
    whole = settings(tmp_path, winoground={"path": str(tmp_path / "whole"), "pairs": None})
    leaked = {"winoground": {"data/images/ex_0_img_1.png", "data/images/ex_2_img_0.png"}}
    entry = scored(retrieval_sets, model, whole, leaked)["winoground"]
    assert (entry["questions"], entry["leaked_images"]) == (3, 2)
    by_hand = settings(tmp_path, winoground={"path": str(tmp_path / "cut"), "pairs": None})
    same(entry["without_leaked"], scored(retrieval_sets, model, by_hand, None)["winoground"])
    leaked = {"winoground": {f"data/images/ex_{number}_img_0.png" for number in range(3)}}
    assert scored(retrieval_sets, model, whole, leaked)["winoground"]["without_leaked"] is None


def test_pixels_of_leaked_pictures_leave(model, tmp_path):
    for name in ("whole", "cut"):
        published.write_ade20k(tmp_path / name)
    inner = "ADEChallengeData2016/images/validation/ADE_val_00000002.jpg"
    (tmp_path / "cut" / inner).unlink()
    (tmp_path / "cut" / inner.replace("images", "annotations").replace("jpg", "png")).unlink()
    counts = {"images": None, "classes": None}
    whole = settings(tmp_path, ade20k={"path": str(tmp_path / "whole"), **counts})
    entry = scored(referring_sets, model, whole, {"ade20k": {inner}})["ade20k"]
    assert (entry["images"], entry["leaked_images"], entry["without_leaked"]["images"]) == (2, 1, 1)
    by_hand = settings(tmp_path, ade20k={"path": str(tmp_path / "cut"), **counts})
    same(entry["without_leaked"], scored(referring_sets, model, by_hand, None)["ade20k"])


def test_nothing_is_scored_twice_where_nothing_leaked_nothing_is_known_or_nothing_is_left(model, tmp_path):
    published.write_urban1k(tmp_path / "set")
    params = settings(tmp_path, urban1k={"path": str(tmp_path / "set"), "pairs": 3})
    plain = scored(retrieval_sets, model, params, None)["urban1k"]
    for leaked, beside in (
        ({"urban1k": set()}, {"leaked_images": 0}),
        ({}, {"leaked_images": "unknown"}),
        ({"urban1k": {f"image/{n}.jpg" for n in (1, 2, 10)}}, {"leaked_images": 3, "without_leaked": None}),
    ):
        assert scored(retrieval_sets, model, params, leaked)["urban1k"] == plain | beside


def audit(folder: Path, excluded: list[int], **sets: object) -> None:
    """What the stage `leakage` leaves: two images of `random` are like three training images, one of `dci` like one."""
    where = {"corpus": "scenes", "row_id": 0, "bits": 1}
    pairs = [("random", "a.jpg", 4), ("random", "b.jpg", 4), ("random", "b.jpg", 7), ("dci", "../p/c.jpg", 9)]
    rows = [{"benchmark": name, "image": image, "position": position, **where} for name, image, position in pairs]
    for inner in ("metrics", "data"):
        (folder / inner).mkdir(exist_ok=True)
    entries = {"random": {"images": 9, "seen_in_training": 2}, "dci": {"images": 5, "seen_in_training": 1}}
    entries |= {"phrase": {"images": 3, "seen_in_training": 0}, "iiw": {"not_run": "not there"}}
    (folder / "metrics/leakage.json").write_text(json.dumps({"sets": entries | sets}))
    pq.write_table(pa.Table.from_pylist(rows, PAIRS), folder / "data/leakage.parquet")
    np.save(folder / "data/excluded.npy", np.array(excluded, np.int64))


def test_leaked_are_the_audits_images_less_those_that_training_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    audit(tmp_path, [])
    assert read_leaked() == {"random": {"a.jpg", "b.jpg"}, "dci": {"../p/c.jpg"}, "phrase": set()}
    audit(tmp_path, [4, 9])  # the other copy of b.jpg is still trained on
    assert read_leaked() == {"random": {"b.jpg"}, "dci": set(), "phrase": set()}
    audit(tmp_path, [4, 7, 9])
    assert read_leaked() == {"random": set(), "dci": set(), "phrase": set()}


def test_an_audit_that_is_not_there_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"metrics/leakage\.json: not found; run `dvc repro leakage`"):
        read_leaked()
    audit(tmp_path, [])
    (tmp_path / "data/leakage.parquet").unlink()
    with pytest.raises(DataError, match=r"data/leakage\.parquet: not found; run `dvc repro leakage`"):
        read_leaked()
