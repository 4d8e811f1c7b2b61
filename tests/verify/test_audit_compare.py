"""The experiment of docs/auditor.md with a tiny budget: three arms through all stages, and their result."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tests.ports import free_port

PROJECT = Path(__file__).parents[2]
CORPUS = {
    "images": 120, "evaluation_images": 16, "regions": 8,
    "faults": {"missing": 1, "server_error": 0, "stalled": 0, "corrupt": 1, "opt_out": 0, "duplicate": 1},
}  # fmt: skip
RECIPE = {"samples": 480, "warmup_steps": 2, "validation_images": 16, "validate_every": 10, "checkpoint_every": 10}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the experiment has run."""
    folder = tmp_path_factory.mktemp("compare")
    overlay = {
        "corpus": {"scenes": {**CORPUS, "port": free_port()}},
        "recipes": {"smoke": RECIPE},
        "superpixels": {"steps": 3},
        "benchmarks": {name: {"pairs": 16} for name in ("random", "look_alike")},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(overlay))
    run(folder)
    return folder


def run(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "CAFT_STORAGE": str(folder / "storage")}
    words = ["--share", "0.1", "--params", str(PROJECT / "params.yaml"), "--overlay", str(folder / "tiny.yaml")]
    subprocess.run(
        [sys.executable, "-m", "pipelines.audit_compare", *words], cwd=folder, env=environment, check=True, timeout=3600
    )


def test_each_arm_trains_on_what_it_says(done: Path) -> None:
    result = json.loads((done / "metrics/audit/compare.json").read_text())
    arms = {name: done / "storage/scratch/audit" / name for name in ("clean", "dirty", "filtered")}
    with (arms["dirty"] / "data/benchmarks/scenes/false_sentences.csv").open(newline="", encoding="utf-8") as file:
        planted = {(int(row["row"]), row["caption"], int(row["sentence"])): row for row in csv.DictReader(file)}
    assert not (arms["clean"] / "data/benchmarks/scenes/false_sentences.csv").exists()
    tables = sorted((arms["dirty"] / "data/support/scenes").glob("*.parquet"))
    rows = [row for path in tables for row in pq.read_table(path).to_pylist()]
    false = [(row["row_id"], row["caption"], row["number"]) in planted for row in rows]
    audit = result["audit"]["0"]
    assert audit["flagged"] == sum(row["flagged"] for row in rows)
    assert audit["both"] == sum(row["flagged"] and is_false for row, is_false in zip(rows, false, strict=True))
    assert audit["false"] == sum(false) and 0.1 < sum(false) / len(rows) < 0.25
    left = result["data"]["filtered"]["unsupported"]
    assert left["sentences"] == audit["flagged"] == pytest.approx(0.1 * len(rows), rel=0.05)
    assert result["data"]["clean"]["rows_out"] == result["data"]["dirty"]["rows_out"]
    weights = {name: (arm / "models/caft.safetensors").read_bytes() for name, arm in arms.items()}
    assert len(set(weights.values())) == 3
    for name, arm in arms.items():
        assert json.loads((arm / "metrics/retrieval.json").read_text()) == result["scores"][name]["0"]
    for name in ("random", "look_alike"):
        entry = result["regained"][name]["whole"]
        assert entry["clean"] == pytest.approx(
            sum(result["scores"]["clean"]["0"][name]["whole"][key] for key in ("t2i_r1", "i2t_r1")) / 2, abs=0.01
        )


def test_what_has_run_is_not_run_again(done: Path) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in (done / "storage/scratch/audit").glob("*/models/*")}
    result = (done / "metrics/audit/compare.json").read_text()
    began = time.monotonic()
    run(done)
    assert time.monotonic() - began < 120
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert (done / "metrics/audit/compare.json").read_text() == result
