"""What metrics files say of a set beside its scores, and the check of all sets before any is scored."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from caft.data.sets import load_retrieval
from caft.errors import DataError
from caft.eval.scores import referring_sets, regions, retrieval_sets
from caft.eval.sets import score_sets
from caft.params import load_params
from tests.data import published

PROJECT = Path(__file__).parents[2]


def settings(tmp_path, **entries):
    """The project's settings with the sets of some entries alone."""
    whole = load_params(PROJECT / "params.yaml")
    kept = {name: whole.benchmarks[name].model_copy(update=changes) for name, changes in entries.items()}
    return whole.model_copy(
        update={"benchmarks": kept, "storage": whole.storage.model_copy(update={"root": str(tmp_path)})}
    )


def test_left_out_captions_are_counted_beside_the_scores(model, tmp_path):
    published.write_urban1k(tmp_path / "urban", {**published.CAPTIONS, 592: "", 593: "."})
    params = settings(tmp_path, urban1k={"path": str(tmp_path / "urban"), "pairs": 5, "partial": True})
    entry = retrieval_sets.score_benchmarks(params, model)[0]["urban1k"]
    assert (entry["pairs"], entry["expected_pairs"], entry["dropped"]) == (3, 5, 2)
    assert entry["dropped_items"][0].startswith("captions without words: 2 (592: is empty")
    assert entry["whole"]["i2t_r10"] == 100.0


def test_left_out_expressions_and_objects_are_counted_beside_the_scores(model, tmp_path):
    published.write_refer(tmp_path)
    file = tmp_path / "refcoco/instances.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["segmentation"] = [[5, 5, 5, 5, 5, 5]]
    content["annotations"].append({"id": 14, "image_id": 7, "segmentation": [[1, 2]]})
    file.write_text(json.dumps(content))
    params = settings(
        tmp_path, refcoco_val={"path": str(tmp_path), "pairs": 5, "images": 2, "references": 3, "partial": True}
    )
    entry = referring_sets.score_benchmarks(params, model)[0]["refcoco_val"]
    assert (entry["expressions"], entry["expected_expressions"], entry["dropped"], entry["skipped_objects"]) == (
        4,
        5,
        1,
        1,
    )


@pytest.mark.parametrize("partial", [False, True])
def test_a_file_of_boxes_that_is_absent_leaves_the_others_scored(model, tmp_path, partial):
    published.write_fg_ovd(tmp_path / "fg_ovd")
    boxes = dict.fromkeys(("hard", "medium", "easy", "trivial"), 2)
    changes = {"path": str(tmp_path / "fg_ovd"), "boxes": boxes, "partial": partial}
    whole = regions.score_benchmarks(settings(tmp_path, fg_ovd=changes), model)["fg_ovd"]
    (tmp_path / "fg_ovd/3_attributes.json").unlink()
    entry = regions.score_benchmarks(settings(tmp_path, fg_ovd=changes), model)["fg_ovd"]
    for level in ("hard", "medium", "trivial"):
        assert (entry[level], entry[f"{level}_chance"]) == (whole[level], whole[f"{level}_chance"])
        assert entry[f"{level}_rows"] == 2
    assert entry.get("easy") is None and "3_attributes.json not found" in entry["skipped"]["easy"]
    assert entry["rows"] == 6


def test_nothing_is_scored_before_all_sets_are_known_to_be_whole(tmp_path):
    for name, caption in (("urban", "A cat."), ("one", ""), ("two", ".")):
        published.write_urban1k(tmp_path / name, {1: "A dog.", 2: caption})
    params = settings(
        tmp_path,
        urban1k={"path": str(tmp_path / "urban"), "pairs": 2},
        random={"path": str(tmp_path / "one"), "pairs": 2},
        look_alike={"path": str(tmp_path / "two"), "pairs": 2, "layout": "urban1k"},
    )
    scored = []
    with pytest.raises(DataError, match=r"benchmark random: .*/one: 1 item(.|\n)*refused too: look_alike") as error:
        score_sets(params, {"retrieval": load_retrieval}, lambda name, _: scored.append(name) or {})
    assert not scored and len(str(error.value).splitlines()) <= 10


# ---- the command


def check(tmp_path, entries, *words):
    (tmp_path / "overlay.yaml").write_text(json.dumps({"benchmarks": entries}))
    command = [sys.executable, "-m", "pipelines.sets", "--overlay", str(tmp_path / "overlay.yaml"), *words]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


def test_the_check_lists_every_bad_item_of_every_set_and_fails(tmp_path):
    published.write_urban1k(tmp_path / "urban", {**published.CAPTIONS, **{n: "." for n in range(592, 612)}})
    published.write_docci(tmp_path / "docci")
    (tmp_path / "docci/images/test_00001.jpg").unlink()
    published.write_refer(tmp_path / "refer")
    entries = {
        "urban1k": {"path": str(tmp_path / "urban"), "pairs": 23},
        "docci": {"path": str(tmp_path / "docci"), "pairs": 3, "partial": True},
        "refcoco_val": {"path": str(tmp_path / "refer"), "pairs": 6, "images": 2, "references": 3},
        "refcoco_testA": {"path": str(tmp_path / "refer"), "pairs": 1, "images": 1, "references": 1},
        "refcoco_testB": {"path": str(tmp_path / "nowhere")},
    }
    done = check(tmp_path, entries, "--check")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1 and "would be refused: urban1k, refcoco_val; mend" in done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if not line.startswith(" ")}
    assert lines.keys() == load_params(PROJECT / "params.yaml").benchmarks.keys()
    assert lines["urban1k"].endswith("REFUSED") and lines["refcoco_val"].endswith("REFUSED")
    assert "there: 2 of 3 pairs, without 1 bad items" in lines["docci"]
    assert "there: 1 expressions on 1 images" in lines["refcoco_testA"]
    assert "not there: data/benchmarks/dci/" in lines["dci"]
    assert all(f"{number}: '.' has no word" in done.stdout for number in range(592, 612))
    assert "images not there: 1" in done.stdout and "docci/images/test_00001.jpg" in done.stdout
    assert "expected 6 pairs (the benchmark's key pairs), found 5" in done.stdout


def test_the_check_is_content_with_whole_sets_and_the_list_reads_none(tmp_path):
    published.write_urban1k(tmp_path / "urban")
    entries = {"urban1k": {"path": str(tmp_path / "urban"), "pairs": 3}}
    done = check(tmp_path, entries, "--check")
    assert done.returncode == 0 and "there: 3 pairs" in done.stdout, done.stderr
    (tmp_path / "urban/caption/1.txt").write_text("")
    done = check(tmp_path, entries)
    assert (
        done.returncode == 0
        and f"{tmp_path}/urban\n" in done.stdout
        and "data/benchmarks/dci: not there" in done.stdout
    )
