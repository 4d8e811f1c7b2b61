"""Exports of minutes: the trained default model with its scores, the paper's size, and every row of Table 3."""

import json
import shutil
from pathlib import Path

import pytest

from caft.export import parity, running
from caft.export.folder import Traced
from caft.export.graphs import graphs
from caft.model.card import ModelCard
from caft.model.model import Model
from caft.params import load_params
from caft.weights.files import save_model
from tests.export.conftest import PROJECT, random_network, sizes
from tests.export.test_folder import run
from tests.peers import peer

pytestmark = [pytest.mark.verify, pytest.mark.slow]


@pytest.fixture(autouse=True)
def packages():
    for package in ("onnx", "onnxscript", "onnxruntime"):
        peer(package)


def export(config, folder: Path, int8: bool = False) -> tuple[Traced, Path]:
    network = random_network(config)
    chunks = 1 if config.is_flat_text else 4
    card = ModelCard(splitter="dreamlip", chunks=chunks, balanced_rule="paper", model=config)
    save_model(network, folder / "model.safetensors", card)
    traced = Traced(Model(network, card), folder / "model.safetensors", scores=lambda form: {})
    traced.write(folder / "onnx", "onnx", int8)
    traced.write(folder / "programs", "torch-export")
    return traced, folder


def require_equal(traced: Traced, folder: Path) -> None:
    network = traced.model.network
    parts, cases = graphs(network), parity.cases(running.Network(network), seed=1)
    for form in (running.Sessions(folder / "onnx", parts), running.Programs(folder / "programs", parts)):
        difference = parity.compare(form, cases)
        assert difference.same == difference.pictures == 8
        assert max(difference.largest.values()) < 1e-4, difference


@pytest.mark.parametrize("row", ["flair", "no_part", "visual_hierarchy", "textual_hierarchy"])
def test_every_row_of_table_3_is_exported(row, tmp_path):
    traced, folder = export(sizes(row), tmp_path)
    require_equal(traced, folder)
    assert (folder / "onnx/score.onnx").exists() == (row != "no_part")


def test_the_paper_s_size_is_exported(tmp_path):
    require_equal(*export(load_params(PROJECT / "params.yaml").models["base"], tmp_path))


def test_the_default_model_scores_the_same_and_in_eight_bits_within_a_point(tmp_path):
    if not (PROJECT / "models/caft.safetensors").exists():
        pytest.skip("the default run's model is not here; `make repro` trains it")
    for name in ("params.yaml", "models", "data"):
        (tmp_path / name).symlink_to(PROJECT / name)
    done = run("--onnx", "exported", "--int8", "--sets", "random,phrase", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "exported/manifest.json").read_text())["scores"]
    assert scores["onnx"] == scores["network"]
    measured = json.loads((PROJECT / "metrics/grounding.json").read_text())["phrase"]["miou"]
    assert scores["network"]["phrase"]["mIoU"] == pytest.approx(measured, abs=0.01)
    for way in ("R@1 I2T", "R@1 T2I"):
        assert abs(scores["int8"]["random"][way] - scores["network"]["random"][way]) <= 1
    shutil.rmtree(tmp_path / "exported")
