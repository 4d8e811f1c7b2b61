"""The evaluation stages and the report as processes, on small rendered sets, with a model at random weights."""

import csv
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from mlflow import MlflowClient

from caft.data.scenes.sets import write_benchmarks
from caft.params import load_params
from caft.weights.files import save_model
from tests.data.published import write_urban1k

PROJECT = Path(__file__).parents[2]
RECALLS = {f"{direction}_r{k}" for direction in ("i2t", "t2i") for k in (1, 5, 10)}
OVERLAY = {
    "corpus": {"scenes": {"evaluation_images": 16, "regions": 8}},
    "benchmarks": {
        "random": {"pairs": 16},
        "look_alike": {"pairs": 16},
        "urban1k": {"pairs": 4, "partial": True},
    },
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, model):
    """A working folder as the stages before leave it."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "params.yaml").write_text((PROJECT / "params.yaml").read_text())
    (folder / "small.yaml").write_text(yaml.safe_dump(OVERLAY))
    params = load_params(folder / "params.yaml", [folder / "small.yaml"])
    write_benchmarks(folder / "data/benchmarks/scenes", params.corpus["scenes"])
    write_urban1k(folder / "data/benchmarks/urban1k")  # of the published sets this one alone, and that with three pairs
    card = {**model.card.record(), "splitter": "spacy", "recipe": {}, "seed": 0}
    save_model(model.network, folder / "models/caft.safetensors", card)
    for name, content in {
        "data": {"scenes": {"rows_in": 9, "rows_out": 7, "dropped": {"http_404": 2}, "fingerprint": "f" * 64}},
        "leakage": {},
        "superpixels": {"oracle_miou": 80.0, "grid_oracle_miou": 45.0, "boundary_recall": 95.0, "live": 63.5},
        "train": {"steps": 20, "samples": 960, "data_wait_share": 0.01},
    }.items():
        (folder / "metrics").mkdir(exist_ok=True)
        (folder / f"metrics/{name}.json").write_text(json.dumps(content))
    (folder / "plots").mkdir()
    (folder / "plots/train.csv").write_text(
        "step,loss,part_loss,whole_loss,validation_t2i_r1\n10,9,5,4,\n20,7,4,3,\n20,,,,12.5\n"
    )
    return folder


def stage(checkout, name):
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "CAFT_STORAGE": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"pipelines.{name}", "--overlay", "small.yaml"]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def evaluated(checkout):
    """Output of each stage, in the order of the graph."""
    names = ("evaluate_retrieval", "evaluate_grounding", "evaluate_regions", "report")
    return {name: stage(checkout, name) for name in names}


def metrics(checkout, name):
    text = (checkout / f"metrics/{name}.json").read_text()
    assert text.endswith("}\n")
    return json.loads(text)


FOLDERS = {"sugar_crepe": "sugar_crepe", "vg_relation": "aro", "vg_attribution": "aro"}  # others: the name's first part


def check_form(value):
    """Keys in order, numbers at two decimals, percent in range."""
    if isinstance(value, dict):
        assert list(value) == sorted(value)
        for inner in value.values():
            check_form(inner)
    elif isinstance(value, float):
        assert value == round(value, 2) and 0 <= value <= 100


def test_retrieval_writes_the_agreed_keys(checkout, evaluated):
    scores = metrics(checkout, "retrieval")
    check_form(scores)
    absent = {
        "dci",
        "docci",
        "sharegpt4v_1k",
        "sharegpt4v_10k",
        "iiw",
        "coco_karpathy",
        "flickr30k_karpathy",
        "imagenet",
        "sugar_crepe",
        "winoground",
        "vg_relation",
        "vg_attribution",
    }
    assert set(scores) == {"random", "look_alike", "urban1k", "composition"} | absent
    for name in ("random", "look_alike"):
        facts = {"pairs", "tied_rows", "chunks_cut", "tokens_seen", "leaked_images"}
        facts |= {"by_kind"} if name == "look_alike" else set()
        assert set(scores[name]) == facts | {"whole", "part", "blend_0.3", "blend_0.7"}
        assert scores[name]["pairs"] == 16
        assert (scores[name]["chunks_cut"], scores[name]["tokens_seen"]) == (0, 100)
        for mode in ("whole", "part", "blend_0.3", "blend_0.7"):
            assert set(scores[name][mode]) == RECALLS
    for name in absent:
        assert set(scores[name]) == {"not_run"}
        assert re.match(
            rf"data/benchmarks/{FOLDERS.get(name, name.split('_')[0])}/\S+ not found; data/benchmarks/README",
            scores[name]["not_run"],
        )
        assert f"{name} is not run: {scores[name]['not_run']}" in evaluated["evaluate_retrieval"].stderr


def test_look_alikes_are_scored_by_kind_in_the_metrics_in_a_table_and_in_the_report(checkout, evaluated):
    found = metrics(checkout, "retrieval")["look_alike"]["by_kind"]
    modes = ("whole", "part", "blend_0.3", "blend_0.7")
    assert set(found) == {"colour", "pattern", "shape", "size"}  # of 16 pairs there are four groups
    for entry in found.values():
        assert set(entry) == {"groups", "queries", "chance", *modes}
        assert (entry["groups"], entry["queries"], entry["chance"]) == (1, 4, 25.0)
    rows = list(csv.DictReader((checkout / "plots/kinds.csv").read_text().splitlines()))
    assert len(rows) == 4 * len(modes) * 2 and {row["set"] for row in rows} == {"look_alike"}
    for row in rows:
        assert float(row["r1"]) == found[row["kind"]][row["score"]][f"{row['direction']}_r1"]["value"]
    assert "look_alike, pairs that differ in" in (checkout / "reports/index.html").read_text(encoding="utf-8")


def test_what_no_audit_knows_is_unknown(checkout, evaluated):
    """The checkout's audit saw no set."""
    for name in ("retrieval", "grounding"):
        scored = [entry for entry in metrics(checkout, name).values() if "not_run" not in entry]
        assert scored and all(entry["leaked_images"] == "unknown" for entry in scored)
    assert metrics(checkout, "regions")["leaked_images"] == "unknown"
    assert "trained on is unknown" in (checkout / "reports/index.html").read_text(encoding="utf-8")


def test_a_partial_set_is_scored_and_says_of_how_many(checkout, evaluated):
    entry = metrics(checkout, "retrieval")["urban1k"]
    assert (entry["pairs"], entry["expected_pairs"]) == (3, 4) and set(entry["whole"]) == RECALLS
    text = (checkout / "reports/index.html").read_text(encoding="utf-8")
    assert "urban1k, 3 pairs of 4: partial data" in text


def test_the_blend_curve_ends_in_the_scores_themselves(checkout, evaluated):
    scores = metrics(checkout, "retrieval")
    rows = list(csv.DictReader((checkout / "plots/blend.csv").read_text().splitlines()))
    assert list(rows[0]) == ["set", "space", "weight", "i2t_r1", "t2i_r1"]
    assert len(rows) == 3 * 2 * 11
    weights = [f"{n / 10}" for n in range(11)]
    for name in ("random", "look_alike"):
        for space in ("logit", "cosine"):
            line = [row for row in rows if row["set"] == name and row["space"] == space]
            assert [row["weight"] for row in line] == weights
            for row, mode in ((line[0], "whole"), (line[10], "part")):
                assert float(row["t2i_r1"]) == scores[name][mode]["t2i_r1"]
                assert float(row["i2t_r1"]) == scores[name][mode]["i2t_r1"]
        chosen = [row for row in rows if row["set"] == name and row["space"] == "logit"]
        for weight in (3, 7):
            assert float(chosen[weight]["t2i_r1"]) == scores[name][f"blend_0.{weight}"]["t2i_r1"]


def test_grounding_writes_the_agreed_keys(checkout, evaluated):
    scores = metrics(checkout, "grounding")
    check_form(scores)
    ours = {"phrase", "phrase_place", "sentence", "colours", "shapes"}
    absent = {name for name in scores if name.startswith("refcoco")} | {"voc20", "ade20k"}
    assert set(scores) == ours | absent and len(absent) == 10
    controls = {"miou_wrong_expression", "miou_all_foreground", "miou_whole_image"}
    for name in ("phrase", "phrase_place", "sentence"):
        assert set(scores[name]) == {
            "miou", "miou_by_level", "match", "overall_iou", "pointing", "expressions", "leaked_images", *controls
        }  # fmt: skip
        kinds = {"all", "colour", "shape", "nonsense", "other_picture"}
        assert kinds <= set(scores[name]["match"]["auroc"]) == set(scores[name]["match"]["auroc_percentile"])
        assert scores[name]["expressions"] > 16
        assert set(scores[name]["miou_by_level"]) == {"64", "32", "16", "8"}
        assert scores[name]["miou_by_level"]["32"] == scores[name]["miou"]
    assert all(set(scores[name]) == {"not_run"} for name in absent)


def test_suites_beyond_the_papers_tables_are_scored_and_shown(checkout, evaluated):
    found = metrics(checkout, "retrieval")["composition"]
    assert set(found) == {"accuracy", "chance", "questions", "leaked_images"} and found["chance"] == {"text": 50}
    assert 16 * 3 <= found["questions"] <= 16 * 5
    assert set(found["accuracy"]) == {"whole", "part", "blend_0.3", "blend_0.7"}
    kinds = {"replace_obj", "replace_att", "replace_rel", "swap_obj", "swap_att"}
    for scores in found["accuracy"].values():
        assert set(scores) == {"text", "text_macro", "tied", "by_category"} and set(scores["by_category"]) == kinds
    text = (checkout / "reports/index.html").read_text(encoding="utf-8")
    assert f"composition, {found['questions']} questions" in text and "winoground was not run" in text
    for name, classes in (("colours", 8), ("shapes", 6)):
        found = metrics(checkout, "grounding")[name]
        assert (found["images"], found["classes"]) == (16, classes) and len(found["segmentation"]) == 3
        for way, scores in found["segmentation"].items():
            assert set(scores) == {"iou", "miou", "miou_interval", "miou_one_class", "pixel_accuracy"}
            line = re.search(rf"{name} mIoU +(\S+) by {way}, pixels +(\S+)", evaluated["evaluate_grounding"].stdout)
            shown = [float(value) for value in line.groups()]
            assert shown == pytest.approx([scores["miou"], scores["pixel_accuracy"]], abs=0.06)
        assert f"{name}, 16 images, {classes} classes" in text and "voc20 was not run" in text


def test_every_expression_is_in_a_table_at_every_level(checkout, evaluated):
    scores = metrics(checkout, "grounding")
    files = sorted((checkout / "reports/expressions").iterdir())
    assert [file.name for file in files] == ["phrase.parquet", "phrase_place.parquet", "sentence.parquet"]
    for file in files:
        rows = pq.read_table(file).to_pylist()
        found = scores[file.stem]
        assert len(rows) == 4 * found["expressions"] and {row["set"] for row in rows} == {file.stem}
        for level, miou in found["miou_by_level"].items():
            ious = [row["iou"] for row in rows if row["level"] == int(level)]
            assert 100 * sum(ious) / len(ious) == pytest.approx(miou, abs=0.01)
        wrong = [row["iou_wrong_expression"] for row in rows if row["level"] == 32]
        wrong = [value for value in wrong if value is not None]
        assert 100 * sum(wrong) / len(wrong) == pytest.approx(found["miou_wrong_expression"], abs=0.01)
        assert all(row["text"] and row["image"] and row["threshold"] > 0 for row in rows)


def test_regions_writes_the_first_set_flat_and_others_by_name(checkout, evaluated):
    scores = metrics(checkout, "regions")
    check_form(scores)
    levels = {"hard", "medium", "easy", "trivial"}
    of_mode = {f"{a}{b}" for a in levels for b in ("", "_optimistic")}
    assert set(scores) == {
        "rows",
        "fg_ovd",
        "leaked_images",
        "box_mode",
        "by_box_mode",
        *of_mode,
        *(f"{a}_chance" for a in levels),
    }
    assert scores["box_mode"] == "masked_pool" and set(scores["by_box_mode"]) == {"masked_pool", "crop", "avg_pool"}
    assert all(set(found) == of_mode for found in scores["by_box_mode"].values())
    assert scores["by_box_mode"]["masked_pool"] == {key: scores[key] for key in scores if key in of_mode}
    assert scores["rows"] == 32
    assert scores["hard_chance"] == pytest.approx(100 / 11, abs=0.01)
    assert "not found" in scores["fg_ovd"]["not_run"]


def test_the_report_leads_to_a_page_on_which_the_model_runs(checkout, evaluated):
    page = (checkout / "reports/demo.html").read_text(encoding="utf-8")
    assert "Model 0123456789abcdef" in page and "random: 16 pictures" in page
    captions = [path.read_text() for path in (checkout / "data/benchmarks/scenes/random/caption").iterdir()]
    assert len(captions) == 16 and all(json.dumps(caption.strip())[1:-1] in page for caption in captions)
    assert '<a href="demo.html">' in (checkout / "reports/index.html").read_text(encoding="utf-8")


def test_scores_and_report_are_in_one_run_of_the_tracker(checkout, evaluated):
    client = MlflowClient(f"sqlite:///{checkout}/mlflow.db")
    experiment = client.get_experiment_by_name("caft")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1
    run = runs[0]
    assert run.data.tags["caft.fingerprint"] == "0123456789abcdef"
    assert run.info.status == "FINISHED"
    for file, keys in (
        ("retrieval", ("random", "blend_0.3", "t2i_r1")),
        ("grounding", ("phrase", "miou")),
        ("regions", ("easy",)),
    ):
        value = metrics(checkout, file)
        for key in keys:
            value = value[key]
        assert run.data.metrics["/".join((file, *keys))] == value
    assert [artifact.path for artifact in client.list_artifacts(run.info.run_id)] == [
        "index.html",
        "paper.json",
        "scores",
    ]


class References(HTMLParser):
    """Everything that a browser would fetch, and which tags are left open."""

    VOID = {"meta", "link", "img", "br", "wbr"}

    def __init__(self):
        super().__init__()
        self.fetched, self.open, self.ids, self.links = [], [], set(), []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids.add(values.get("id"))
        if tag == "a":
            self.links.append(values["href"])
        else:
            self.fetched += [value for key, value in attributes if key in ("src", "href", "srcset", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_is_one_file_without_requests(checkout, evaluated):
    text = (checkout / "reports/index.html").read_text(encoding="utf-8")
    page = References()
    page.feed(text)
    assert page.open == []
    assert len(page.fetched) > 50
    assert all(reference.startswith("data:") for reference in page.fetched)
    assert "url(" not in text and "@import" not in text and "<script" not in text
    inside = [link for link in page.links if link[0] == "#"]
    assert inside and all(link[1:] in page.ids for link in inside)
    # What a reader can follow from there is the live page, and where the sets that are not there come from, nothing else.
    publishers = {benchmark.page for benchmark in load_params(PROJECT / "params.yaml").benchmarks.values()}
    assert set(page.links) - set(inside) <= publishers | {"../data/benchmarks/README.md", "demo.html"}
    assert (PROJECT / "data/benchmarks/README.md").exists() and "../data/benchmarks/README.md" in page.links
    assert str(checkout) not in text


def test_the_report_shows_scores_controls_and_losses(checkout, evaluated):
    text = (checkout / "reports/index.html").read_text(encoding="utf-8")
    scores = metrics(checkout, "grounding")["phrase"]
    for value in (scores["miou"], scores["miou_wrong_expression"], scores["miou_all_foreground"]):
        assert f"<td>{value:.1f}</td>" in text
    for words in (
        "http 404",
        "chance",
        "dci was not run",
        "refcoco_plus_testA was not run",
        "groups of four that differ in one thing",
        "32 boxes",
    ):
        assert words in text


def test_a_second_run_gives_the_same_bytes(checkout, evaluated):
    files = ["metrics/retrieval.json", "plots/blend.csv", "reports/index.html"]

    def content():  # without the times that superpixel methods take
        return [re.sub(rb"[0-9.]+ ms", b"ms", (checkout / file).read_bytes()) for file in files]

    before = content()
    (checkout / "metrics/retrieval.json").unlink()
    again = stage(checkout, "evaluate_retrieval")  # with the features that the first has kept
    assert again.stderr.count("features are taken from") == 3
    stage(checkout, "report")
    assert content() == before
