"""Runs in a real MLflow on SQLite: found again by fingerprint, resumed, and opened by two processes at once."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from caft.errors import TrackingError
from caft.params import load_params
from caft.storage import tracking_uri
from caft.train.tracking import open_run


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    """Settings whose storage is a new folder, so the first opening makes the database."""
    storage = tmp_path_factory.mktemp("tracking")
    loaded = load_params("params.yaml")
    return loaded.model_copy(update={"storage": loaded.storage.model_copy(update={"root": str(storage)})})


def opened(params, fingerprint, **parameters):
    return open_run(params, fingerprint, "tiny-smoke", {"recipe": "smoke"}, parameters)


def stored(params, run):
    return MlflowClient(tracking_uri(params)).get_run(run.run_id)


def history(params, run, key):
    points = MlflowClient(tracking_uri(params)).get_metric_history(run.run_id, key)
    return [(point.step, point.value) for point in sorted(points, key=lambda point: point.step)]


def test_two_processes_that_open_at_once_share_database_and_run(params, monkeypatch):
    script = (
        "import sys; from caft.params import load_params; from caft.train.tracking import open_run\n"
        "params = load_params('params.yaml')\n"
        "run = open_run(params, 'both', 'both', {}, {'a': 1}); print(run.run_id)"
    )
    monkeypatch.setenv("CAFT_STORAGE", params.storage.root)
    command = [sys.executable, "-c", script]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    assert ends[0][0] == ends[1][0] != ""
    assert (Path(params.storage.root) / "mlflow.db").is_file()


def test_artifacts_go_to_the_storage_root_whatever_the_working_folder(params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = opened(params, "artifacts")
    (tmp_path / "index.html").write_text("<p>report</p>")
    run.log_file(tmp_path / "index.html")
    location = stored(params, run).info.artifact_uri
    assert location.startswith("file:///")
    kept = Path(location.removeprefix("file://")) / "index.html"
    assert kept.read_text() == "<p>report</p>"
    assert kept.is_relative_to(Path(params.storage.root) / "mlartifacts")
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]  # no stray mlruns


def test_a_run_says_where_it_comes_from(params, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "brave-forest")
    run = opened(params, "origin", **{"train.batch": 48, "train.clip_norm": None, "train.betas": (0.9, 0.98)})
    found = stored(params, run)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert found.data.tags["caft.fingerprint"] == "origin"
    assert found.data.tags["mlflow.source.git.commit"] == head
    assert found.data.tags["dvc.experiment"] == "brave-forest"
    assert found.data.tags["recipe"] == "smoke"
    assert found.data.tags["mlflow.runName"] == "tiny-smoke"
    assert found.data.params == {"train.batch": "48", "train.clip_norm": "None", "train.betas": "(0.9, 0.98)"}


def test_a_resumed_run_is_the_same_run_and_has_no_step_twice(params):
    first = opened(params, "resumed", batch=48)
    first.log_metrics([(10, {"step": 10, "loss": 5.0, "part_loss": 3.0}), (20, {"loss": 4.0, "part_loss": None})])
    first.log_metrics([(30, {"loss": 3.5})])
    first.finish("FAILED")
    assert stored(params, first).info.status == "FAILED"

    second = opened(params, "resumed", batch=48)
    assert second.run_id == first.run_id
    assert stored(params, second).info.status == "RUNNING"
    # The whole file of curves again, as after a kill, and a key that starts late.
    second.log_metrics(
        [(10, {"loss": 5.0}), (20, {"loss": 4.0, "late": 1.0}), (30, {"loss": 3.5}), (40, {"loss": 3.0})]
    )
    second.finish()
    assert history(params, second, "loss") == [(10, 5), (20, 4), (30, 3.5), (40, 3)]
    assert history(params, second, "part_loss") == [(10, 3)]
    assert history(params, second, "late") == [(20, 1)]
    assert "step" not in stored(params, second).data.metrics
    assert stored(params, second).info.status == "FINISHED"


def test_settings_that_only_move_the_work_may_change_on_resume(params):
    opened(params, "moved", launch="local").finish()
    again = opened(params, "moved", launch="a100x8", workers=10)
    assert stored(params, again).data.params == {"launch": "local", "workers": "10"}


def test_another_fingerprint_is_another_run(params):
    assert opened(params, "one").run_id != opened(params, "other").run_id


def test_many_points_and_parameters_go_in_batches(params):
    run = opened(params, "many", **{f"key.{n}": n for n in range(130)})
    begin = time.monotonic()
    run.log_metrics([(step, {"loss": 1.0 / step, "grad_norm": 2.0}) for step in range(1, 1301)])
    assert time.monotonic() - begin < 30  # one by one, 2,600 points take more than a minute
    assert len(history(params, run, "loss")) == 1300
    assert len(stored(params, run).data.params) == 130


def test_scores_are_flattened_and_stored_again_only_when_they_change(params):
    run = opened(params, "scores")
    scores = {
        "random": {"pairs": 4, "whole": {"t2i_r1": 41.5}, "blend_0.3": {"t2i_r1": 50}},
        "gone": {"not_run": "why"},
    }
    run.log_scores("retrieval", scores)
    run.log_scores("retrieval", scores)
    assert stored(params, run).data.metrics == {
        "retrieval/random/pairs": 4,
        "retrieval/random/whole/t2i_r1": 41.5,
        "retrieval/random/blend_0.3/t2i_r1": 50,
    }
    assert len(history(params, run, "retrieval/random/whole/t2i_r1")) == 1
    scores["random"]["whole"]["t2i_r1"] = 42.0
    run.log_scores("retrieval", scores)
    assert stored(params, run).data.metrics["retrieval/random/whole/t2i_r1"] == 42
    run.log_scores("grounding", {"phrase": {"miou": 60.0, "miou_wrong_expression": None}})
    assert "grounding/phrase/miou_wrong_expression" not in stored(params, run).data.metrics


def test_data_is_a_dataset_input_with_counts_and_fingerprint(params):
    run = opened(params, "data")
    facts = {"rows_in": 10, "rows_out": 7, "dropped": {"http_404": 2, "decode": 1}, "fingerprint": "f" * 64}
    run.log_data({"scenes": facts})
    run.log_data({"scenes": facts})
    inputs = stored(params, run).inputs.dataset_inputs
    assert [(entry.dataset.name, entry.dataset.digest) for entry in inputs] == [("scenes", "f" * 36)]
    assert json.loads(inputs[0].dataset.profile) == {key: facts[key] for key in ("rows_in", "rows_out", "dropped")}


def test_a_tracker_that_cannot_be_reached_is_our_error(params, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for uri in (f"sqlite:///{tmp_path}/file/mlflow.db", f"sqlite:///{tmp_path}", "http://127.0.0.1:9"):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        there = params.model_copy(update={"storage": params.storage.model_copy(update={"tracking_uri": uri})})
        with pytest.raises(TrackingError, match=f"MLflow at {uri}: .*check storage.tracking_uri"):
            opened(there, "unreachable")


def test_a_deleted_experiment_is_explained(params):
    other = params.model_copy(update={"storage": params.storage.model_copy(update={"experiment": "old"})})
    opened(other, "old")
    client = MlflowClient(tracking_uri(params))
    client.delete_experiment(client.get_experiment_by_name("old").experiment_id)
    with pytest.raises(TrackingError, match="the experiment 'old' was deleted; restore it"):
        opened(other, "old")
