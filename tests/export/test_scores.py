"""Scores of a form on evaluation sets, against the stages' own; what a form must not differ by; what no file can hold."""

from pathlib import Path

import pytest

from caft.errors import CaftError, DataError
from caft.eval.scores.referring import score_expressions
from caft.eval.scores.retrieval_sets import score_retrieval
from caft.export import programs
from caft.export.folder import _require_equal
from caft.export.graphs import graphs
from caft.export.parity import Difference
from caft.export.running import Network
from caft.export.scores import find_sets, score


def test_scores_are_those_of_the_evaluation(small, model, monkeypatch):
    params, folder = small
    monkeypatch.chdir(folder)
    sets = find_sets(params, ["look_alike", "sentence"])
    found = score(Network(model.network), model, sets)
    entry, _ = score_retrieval(model, sets["look_alike"], params.evaluation)
    blend = entry["blend_0.3"]
    assert found["look_alike"] == {"R@1 I2T": blend["i2t_r1"], "R@1 T2I": blend["t2i_r1"]}
    masks, _ = score_expressions(model.network, sets["sentence"], batch=4)
    assert found["sentence"] == {"mIoU": pytest.approx(masks["miou"], abs=1e-3)}


def test_the_first_set_of_each_kind_is_taken_and_a_name_must_be_one(small, monkeypatch):
    params, folder = small
    monkeypatch.chdir(folder)
    assert list(find_sets(params, None)) == ["random", "phrase"]
    with pytest.raises(
        DataError, match="--sets: 'regions' is no retrieval or referring set of params.yaml; it has random,"
    ):
        find_sets(params, ["random", "regions"])
    with pytest.raises(DataError, match="--sets: docci: "):
        find_sets(params, ["docci"])
    other = {"random": params.benchmarks["random"].model_copy(update={"pairs": 17})}
    with pytest.raises(DataError, match="^benchmark random: "):
        find_sets(params.model_copy(update={"benchmarks": other}), None)


@pytest.mark.parametrize(
    ("largest", "same", "message"),
    [
        ({"image.whole": 2e-4}, 8, "onnx gives other numbers than the network: image.whole by 2.0e-04"),
        ({"image.whole": float("nan")}, 8, "image.whole by nan"),
        ({"image.whole": 0.0}, 3, "3 of 8 pictures with the same segments"),
    ],
)
def test_a_form_that_differs_is_refused(largest, same, message):
    with pytest.raises(CaftError, match=message):
        _require_equal({"onnx": Difference(largest, dict.fromkeys(largest, 1.0), 8, same)}, Path("out"))
    _require_equal({"int8": Difference(largest, dict.fromkeys(largest, 1.0), 8, same)}, Path("out"))
    _require_equal({"onnx": Difference({"image.whole": 2e-4}, {"image.whole": 3.0}, 8, 7)}, Path("out"))


def test_weights_that_no_onnx_file_holds_are_refused(model, monkeypatch, tmp_path):
    graph = next(graph for graph in graphs(model.network) if graph.name == "score")
    monkeypatch.setattr(programs, "_MOST", 1000)  # bytes, for two gigabytes
    with pytest.raises(CaftError, match="score.onnx: the weights take 0.0 GB, .* at most 2; use --torch-export"):
        programs.write_onnx(programs.trace(graph), graph, tmp_path / "score.onnx")
    assert not list(tmp_path.iterdir())
