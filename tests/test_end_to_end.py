"""The whole pipeline by `dvc repro` on a few hundred scenes, in a checkout of its own."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.checkout import DVC, ENVIRONMENT, dvc, make_checkout, stages_run, would_run
from tests.ports import free_port, port_is_free
from tests.waiting import wait_until

IMAGES, PAIRS = 320, 64
FAULTS = {"missing": 6, "server_error": 2, "stalled": 1, "corrupt": 3, "opt_out": 3, "duplicate": 4}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def settings(port: int) -> dict[str, Any]:
    scenes = {"images": IMAGES, "evaluation_images": PAIRS, "regions": 24, "port": port, "faults": FAULTS}
    return {
        "train": {"batch": 32, "samples": 6400},
        "superpixels": {"steps": 60},
        "corpus": {"scenes": {**scenes, "fetch": {"images_per_shard": 40}}},
        "benchmarks": {name: {"pairs": PAIRS} for name in ("random", "look_alike")},
    }


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def scored(path: Path) -> dict[str, Any]:
    """The sets of a metrics file that are there; the paper's are not."""
    return {name: scores for name, scores in read(path).items() if "not_run" not in scores}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which `dvc repro` has run once."""
    folder = make_checkout(tmp_path_factory.mktemp("caft"), settings(free_port()))
    done = dvc(folder, "repro")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return folder


RECALLS = {f"{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)}
GROUNDING = {
    "leaked_images",
    "miou",
    "miou_by_level",
    "match",
    "miou_wrong_expression",
    "miou_all_foreground",
    "miou_whole_image",
    "overall_iou",
    "pointing",
    "expressions",
}


def test_metrics_have_the_published_keys(finished: Path) -> None:
    retrieval = scored(finished / "metrics/retrieval.json")
    assert set(retrieval) == {"random", "look_alike", "composition"}
    assert retrieval.pop("composition")["chance"] == {"text": 50}
    assert retrieval["look_alike"].pop("by_kind")
    for scores in retrieval.values():
        assert set(scores) == {
            "leaked_images",
            "pairs",
            "tied_rows",
            "chunks_cut",
            "tokens_seen",
            "whole",
            "part",
            "blend_0.3",
            "blend_0.7",
        }
        assert scores["pairs"] == PAIRS
        for kind in ("whole", "part", "blend_0.3", "blend_0.7"):
            assert set(scores[kind]) == RECALLS
    grounding = scored(finished / "metrics/grounding.json")
    assert set(grounding) == {"phrase", "phrase_place", "sentence", "colours", "shapes"}
    for name, scores in grounding.items():
        assert set(scores) == (
            {"segmentation", "classes", "images", "leaked_images"} if "segmentation" in scores else GROUNDING
        ), name
    assert set(read(finished / "metrics/regions.json")) >= {"hard", "medium", "easy", "trivial", "rows"}
    superpixels = read(finished / "metrics/superpixels.json")
    assert set(superpixels) == {"oracle_miou", "grid_oracle_miou", "boundary_recall", "live", "intervals"}
    for name, ends in superpixels["intervals"].items():
        assert ends["low"] <= superpixels[name] <= ends["high"]
    training = read(finished / "metrics/train.json")
    assert training["cost"]["starts"] >= 1 and training["cost"]["step_seconds"] > 0
    assert set(training) == {
        "steps",
        "samples",
        "images_per_s",
        "data_wait_share",
        "cost",
        "losses",
        "scales",
        "biases",
        "settings_digest",
        "weights",
    }
    assert (training["steps"], training["samples"]) == (200, 6400)
    assert "| samples | 6400 |" in (finished / "models/caft.md").read_text()


def test_every_row_is_trained_on_or_counted_by_its_fault(finished: Path) -> None:
    assert read(finished / "metrics/data.json")["scenes"] | {"fingerprint": None} == {
        "rows_in": IMAGES + sum(FAULTS.values()),
        "rows_out": IMAGES,
        "dropped": {
            "duplicate_url": FAULTS["duplicate"],
            "decode": FAULTS["corrupt"],
            "http_404": FAULTS["missing"],
            "http_500": FAULTS["server_error"],
            "opt_out": FAULTS["opt_out"],
            "timeout": FAULTS["stalled"],
        },
        "fingerprint": None,
    }
    assert read(finished / "data/index/index.json")["images"] == IMAGES


def test_what_is_found_was_learnt(finished: Path) -> None:
    chance = 100 / PAIRS
    random = read(finished / "metrics/retrieval.json")["random"]
    assert random["part"]["t2i_r1"] > 5 * chance
    assert random["whole"]["t2i_r1"] > 5 * chance
    losses = [line.split(",") for line in (finished / "plots/train.csv").read_text().splitlines()]
    column = losses[0].index("loss")
    values = [float(row[column]) for row in losses[1:] if row[column]]
    # One batch says little: which it is follows the images' addresses, so the port, which is another one each time.
    assert min(values[-10:]) < values[0] / 2


def test_git_sees_metrics_and_the_lock_and_nothing_else(finished: Path) -> None:
    status = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"], cwd=finished, capture_output=True, text=True
    ).stdout
    changed = {line[3:] for line in status.splitlines()}
    assert changed == {
        "dvc.lock",
        *(
            f"metrics/{name}.json"
            for name in ("data", "leakage", "superpixels", "train", "retrieval", "grounding", "regions")
        ),
        "plots/train.csv",
        "plots/blend.csv",
        "plots/kinds.csv",
    }


def test_dvc_shows_metrics_and_plots_and_the_report_is_there(finished: Path) -> None:
    shown = dvc(finished, "metrics", "show", "--json")
    assert shown.returncode == 0, shown.stderr
    files = json.loads(shown.stdout)[""]["data"]
    assert set(files) == {str(path.relative_to(finished)) for path in (finished / "metrics").glob("*.json")}
    plots = dvc(finished, "plots", "show", "--out", str(finished.parent / "plots"))
    assert plots.returncode == 0, plots.stderr
    assert (finished / "reports/index.html").stat().st_size > 10_000


def test_no_machine_path_is_in_what_dvc_keeps(finished: Path) -> None:
    for kept in ("data/urls", "data/images", "data/captions", "data/sentences", "data/index", "models", "metrics"):
        for path in (finished / kept).rglob("*"):
            if path.is_file():
                assert str(finished).encode() not in path.read_bytes(), path


def test_a_second_run_does_nothing(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if _is_result(path, finished)}
    lock = (finished / "dvc.lock").read_text()
    assert would_run(finished, "dvc.yaml") == set()
    done = dvc(finished, "repro")
    assert done.returncode == 0, done.stderr
    assert stages_run(done.stdout) == []
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*") if _is_result(path, finished)}
    assert (finished / "dvc.lock").read_text() == lock  # is written again, the same


def _is_result(path: Path, folder: Path) -> bool:
    kept = ("data", "images", "runs", "models", "metrics", "plots", "reports")
    return path.is_file() and path.relative_to(folder).parts[0] in kept


@pytest.mark.verify
def test_an_experiment_copy_uses_the_images_of_the_main_checkout(finished: Path) -> None:
    """`dvc exp run --temp` starts in a copy without untracked files; nothing may be fetched again there."""
    manifest = read(finished / "data/images/scenes.json")
    tars = {path: path.stat().st_mtime_ns for path in (finished / "images/scenes").glob("*.tar")}
    assert len(tars) == len(manifest["shards"])
    done = dvc(finished, "exp", "run", "--temp", "--name", "short", "-S", "train.samples=320", "train")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert stages_run(done.stdout) == ["train"]
    assert tars == {path: path.stat().st_mtime_ns for path in (finished / "images/scenes").glob("*.tar")}
    assert len(list((finished / "runs").iterdir())) == 2
    shown = dvc(finished, "exp", "show", "--json")
    assert '"steps": 10' in json.dumps(json.loads(shown.stdout))


def test_a_fetch_killed_half_way_is_completed_by_the_next_run(finished: Path, tmp_path: Path) -> None:
    port = yaml.safe_load((finished / "params.yaml").read_text())["corpus"]["scenes"]["port"]
    folder = make_checkout(tmp_path / "caft", settings(port))
    images = folder / "images/scenes"
    running = subprocess.Popen(
        [*DVC, "repro", "fetch@scenes"],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: any(images.glob("*_stats.json")), 240)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    done_before = len(list(images.glob("*_stats.json")))
    shards = len(read(finished / "data/images/scenes.json")["shards"])
    assert 0 < done_before < shards
    assert not (folder / "data/images/scenes.json").exists()
    wait_until(lambda: port_is_free(port), 30)  # the picture server went with its stage

    again = dvc(folder, "repro", "captions@scenes")
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-6000:]
    assert read(folder / "data/images/scenes.json") == read(finished / "data/images/scenes.json")
    for table in (finished / "data/captions/scenes").iterdir():
        assert (folder / "data/captions/scenes" / table.name).read_bytes() == table.read_bytes()


@pytest.mark.verify
def test_a_point_of_the_scaling_graph_is_trained_on_its_share_once(finished: Path) -> None:
    """On a corpus of its own, under scaling/; the root graph's data stay as they are."""
    before = {path: path.read_bytes() for path in (finished / "data/index").iterdir()}
    overlay = finished / "pipelines/scaling/larger.yaml"
    content = yaml.safe_load(overlay.read_text())
    scenes = yaml.safe_load((finished / "params.yaml").read_text())["corpus"]["scenes"]
    content["corpus"]["scenes_32k"] = {**scenes, "port": free_port()}
    content["train"] = {"samples": 640}
    overlay.write_text(yaml.safe_dump(content))
    target = "pipelines/scaling/dvc.yaml:point@flair-epochs-16000-1"
    done = dvc(finished, "repro", target)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    ran = [name.rpartition(":")[2] for name in stages_run(done.stdout)]
    data = ["source", "fetch", "captions", "sentences", "select", "index", "leakage"]
    assert sorted(ran) == sorted([*data, "point@flair-epochs-16000-1"])
    assert {path: path.read_bytes() for path in (finished / "data/index").iterdir()} == before
    point = read(finished / "scaling/metrics/flair-epochs-16000-1.json")
    # A quarter of the images is held out; half of the others, and of the samples, in batches of 32.
    assert (point["images"], point["samples"], point["seed"]) == (IMAGES * 3 // 4 // 2, 320, 1)
    items = read(finished / "scaling/plots/flair-epochs-16000-1.json")
    for name, found in items["retrieval"].items():
        assert set(found) == {"global", "conditioned", "blend_0.3", "blend_0.7"}
        for kind, ways in found.items():
            for way, hits in ways.items():
                assert 100 * hits.count("1") / PAIRS == pytest.approx(
                    point["scores"][name][kind][f"{way}_r1"], abs=0.01
                )
    for name, found in items["referring"].items():
        assert len(found["pictures"]) == len(found["margin"])
        mean = sum(found["margin"]) / len(found["margin"])
        assert mean == pytest.approx(point["referring"][name]["margin"], abs=0.02)
    again = dvc(finished, "repro", target)
    assert again.returncode == 0 and stages_run(again.stdout) == []
