"""Runs in a real MLflow on SQLite: found again by fingerprint, resumed, under parents, and opened by two at once."""

import getpass
import hashlib
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from caft.errors import TrackingError
from caft.params import load_params
from caft.storage import tracking_uri
from caft.train.tracking import origin
from caft.train.tracking.launched import parameters_of
from caft.train.tracking.names import curve_name, parameters
from caft.train.tracking.runs import open_run, open_training, page_of_scores


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


SET = "b48-seeds-tiny-smoke-scenes"


def family(params):
    """Names of all runs of the experiment, each under the names of its parents."""
    client = MlflowClient(tracking_uri(params))
    experiment = client.get_experiment_by_name(params.storage.experiment)
    runs = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}

    def path(run):
        above = runs.get(run.data.tags.get("mlflow.parentRunId"))
        return (*(path(above) if above else ()), run.info.run_name)

    return sorted(path(run) for run in runs.values())


def named(params, name):
    client = MlflowClient(tracking_uri(params))
    experiment = client.get_experiment_by_name(params.storage.experiment)
    (found,) = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'")
    return found


def test_two_processes_at_once_share_database_run_and_parent(params, monkeypatch):
    script = """
import sys
from caft.params import load_params
from caft.train.tracking.runs import open_run, open_training

params = load_params("params.yaml")
print(open_run(params, "both", "both", {}, {"a": 1}).run_id)
seed = int(sys.argv[1])
run = open_training(params.model_copy(update={"seed": seed}), f"seed {seed}", "alike", [])
run.log_scores("retrieval", {"t2i_r1": 40.0 + 10 * seed})
run.finish()
"""
    monkeypatch.setenv("CAFT_STORAGE", params.storage.root)
    monkeypatch.delenv("DVC_EXP_BASELINE_REV", raising=False)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, seed], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for seed in "01"
    ]
    ends = [process.communicate(timeout=600) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    assert ends[0][0] == ends[1][0] != ""
    assert (Path(params.storage.root) / "mlflow.db").is_file()
    seeds = [(SET, f"b48-s{seed}-tiny-smoke-scenes") for seed in range(2)]
    assert family(params) == [(SET,), *seeds, ("both",)]
    assert named(params, SET).data.metrics["retrieval/t2i_r1"] == 45


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
    assert history(params, second, "curves/train/loss") == [(10, 5), (20, 4), (30, 3.5), (40, 3)]
    assert history(params, second, "curves/train/part_loss") == [(10, 3)]
    assert history(params, second, "curves/train/late") == [(20, 1)]
    assert "curves/train/step" not in stored(params, second).data.metrics
    assert stored(params, second).info.status == "FINISHED"


def test_settings_that_only_move_the_work_may_change_on_resume(params):
    opened(params, "moved", launch="local").finish()
    again = opened(params, "moved", launch="a100x8", workers=10)
    assert stored(params, again).data.params == {"launch": "local", "workers": "10"}


def test_another_fingerprint_is_another_run(params):
    assert opened(params, "one").run_id != opened(params, "other").run_id


def test_more_points_and_parameters_than_fit_into_one_request_are_all_stored(params):
    run = opened(params, "many", **{f"key.{n}": n for n in range(130)})
    begin = time.monotonic()
    run.log_metrics([(step, {"loss": 1.0 / step, "grad_norm": 2.0}) for step in range(1, 1251)])
    assert time.monotonic() - begin < 30  # one by one, 2,500 points take more than a minute
    assert len(history(params, run, "curves/train/loss")) == len(history(params, run, "curves/train/grad_norm")) == 1250
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
        "retrieval/random/whole/t2i_r1": 41.5,
        "retrieval/random/blend_0.3/t2i_r1": 50,
    }
    assert len(history(params, run, "retrieval/random/whole/t2i_r1")) == 1
    scores["random"]["whole"]["t2i_r1"] = 42.0
    run.log_scores("retrieval", scores)
    assert stored(params, run).data.metrics["retrieval/random/whole/t2i_r1"] == 42
    run.log_scores("grounding", {"phrase": {"miou": 60.0, "miou_wrong_expression": None}})
    assert "grounding/phrase/miou_wrong_expression" not in stored(params, run).data.metrics


SCORES = {
    "pairs": 600,
    "hard": 19.5,
    "hard_chance": 9.09,
    "hard_optimistic": 20.5,
    "by_box_mode": {"crop": {"hard": 8.5}},
    "phrase": {
        "expressions": 387,
        "expected_expressions": 400,
        "miou": 61.5,
        "miou_whole_image": 4.5,
        "miou_all_foreground": 33.0,
        "miou_by_level": {"32": 61.5},
        "match": {"auroc": {"all": 81.0}},
    },
    "suite": {
        "accuracy": {"whole": {"text": 58.0, "tied": 3, "by_category": {"swap_att": {"text": 55.0}}}},
        "chance": {"text": 50.0},
        "questions": 604,
    },
    "classes": {"segmentation": {"value": {"miou": 93.0, "miou_interval": {"low": 92.0}, "iou": {"red shape": 91.0}}}},
}


def test_constants_of_a_set_are_tags_and_tables_are_a_file(params):
    run = opened(params, "tables")
    run.log_scores("regions", SCORES)
    found = stored(params, run)
    assert found.data.metrics == {
        "regions/hard": 19.5,
        "regions/phrase/miou": 61.5,
        "regions/phrase/miou_whole_image": 4.5,
        "regions/suite/accuracy/whole/text": 58.0,
        "regions/classes/segmentation/value/miou": 93.0,
    }
    sets = {key: value for key, value in found.data.tags.items() if key.startswith("caft.set.")}
    assert sets == {
        "caft.set.regions": "pairs 600, hard_chance 9.09",
        "caft.set.regions/phrase": "expressions 387, expected_expressions 400, miou_all_foreground 33.0",
        "caft.set.regions/suite": "questions 604",
    }
    assert json.loads(artifact(found, "scores/regions.json")) == SCORES


def test_a_run_says_what_it_is_who_made_it_and_by_what(params, monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(sys, "argv", ["/bin/mine.py"])
    found = stored(params, training(params, "described")).data.tags
    assert found["mlflow.user"] == getpass.getuser()
    assert found["mlflow.source.name"] == "mine.py" and found["mlflow.source.type"] == "LOCAL"
    assert (
        "**tiny** trained by recipe **smoke** on **scenes**: batch 48, seed 0, 2 ranks" in found["mlflow.note.content"]
    )


def test_words_that_a_person_wrote_are_kept(params):
    run = training(params, "noted")
    client = MlflowClient(tracking_uri(params))
    client.set_tag(run.run_id, "mlflow.note.content", "The good one.")
    assert stored(params, training(params, "noted")).data.tags["mlflow.note.content"] == "The good one."


def test_the_experiment_has_a_view_of_the_scores_that_people_compare(fresh):
    """Its form is what MLflow's page writes for a view that is saved by hand."""
    run = opened(fresh, "view")
    assert page_of_scores(fresh, "http://there") == "http://there"
    run.log_scores("retrieval", {name: {"whole": {"t2i_r1": 1.0, "i2t_r1": 2.0}} for name in ("a", "b", "c")})
    run.log_scores("grounding", {name: {"miou": 1.0} for name in ("phrase", "sentence")})
    run.log_scores("regions", {"hard": 1.0, "easy": 2.0})
    client = MlflowClient(tracking_uri(fresh))
    experiment = client.get_experiment(stored(fresh, run).info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    view = json.loads(experiment.tags["mlflow.sharedViewState.scores"])
    assert view["name"] == "Scores" and json.loads(view["state"])["selectedColumns"] == [
        "metrics.`retrieval/a/whole/t2i_r1`",
        "metrics.`retrieval/b/whole/t2i_r1`",
        "metrics.`grounding/phrase/miou`",
        "metrics.`regions/hard`",
    ]
    page = f"http://there/#/experiments/{experiment.experiment_id}/runs"
    assert page_of_scores(fresh, "http://there") == f"{page}?workflowType=machine_learning&viewStateShareKey=scores"

    mine = json.dumps({**view, "updatedAt": 1795869905000, "state": '{"selectedColumns": []}'})
    client.set_experiment_tag(experiment.experiment_id, "mlflow.sharedViewState.scores", mine)
    run.log_scores("regions", {"hard": 3.0})
    again = client.get_experiment(experiment.experiment_id)
    assert again.tags["mlflow.sharedViewState.scores"] == mine  # a person has changed it


def test_a_run_of_an_earlier_version_is_read_as_before(fresh):
    """It has constants and tables among its metrics, and curves without the word."""
    runs = [training(fresh, f"seed{seed}", seed) for seed in (0, 1)]
    client = MlflowClient(tracking_uri(fresh))
    for run, score in zip(runs, (40.0, 50.0), strict=True):
        for key, value in {"train/loss": 1.0, "retrieval/random/pairs": 256.0, "speed/images_per_s": 78.7}.items():
            client.log_metric(run.run_id, key, value, step=10)
        client.log_metric(run.run_id, "retrieval/random/whole/t2i_r1", score)
    assert runs[0].deviations("retrieval")["retrieval/random/whole/t2i_r1"] == pytest.approx(7.0710678)
    assert parameters_of(fresh, runs[0].run_id)["model"] == "tiny"
    runs[0].log_scores("retrieval", {"random": {"pairs": 256, "whole": {"t2i_r1": 42.0}}})
    found = stored(fresh, runs[0])
    assert found.data.metrics["retrieval/random/whole/t2i_r1"] == 42
    assert found.data.tags["caft.set.retrieval/random"] == "pairs 256"


def test_the_figures_of_a_run_are_single_values_also_over_its_seeds(fresh):
    for seed, rate in enumerate((100.0, 120.0)):
        run = training(fresh, f"seed{seed}", seed)
        run.log_metrics([(10, {"images_per_s": 78.7})])
        run.log_figures("speed", {"images_per_s": rate, "starts": 1, "device": "CPU", "predicted": {"hours": 1.0}})
    found = stored(fresh, run).data.metrics
    assert found == {"curves/speed/images_per_s": 78.7, "speed/images_per_s": 120.0, "speed/starts": 1.0}
    assert named(fresh, SET).data.metrics["speed/images_per_s"] == 110


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


# ---- names


def training(params, fingerprint, seed=0, overlays=(), alike="a" * 16, **train):
    """A run as the stage opens it; `train` are overrides of the recipe."""
    changed = {"seed": seed, "train": params.train.model_copy(update=train)}
    return open_training(params.model_copy(update=changed), fingerprint, alike, overlays)


@pytest.fixture
def fresh(params, request, monkeypatch):
    """Settings with an experiment of the test's own, outside of any DVC experiment."""
    monkeypatch.delenv("DVC_EXP_BASELINE_REV", raising=False)
    storage = params.storage.model_copy(update={"experiment": request.node.name})
    return params.model_copy(update={"storage": storage})


def test_a_run_is_named_and_described_by_what_it_was_trained_with(fresh):
    run = training(
        fresh,
        "named",
        seed=3,
        overlays=["pipelines/ablation/no_part.yaml"],
        batch=64,
        clip_norm=0.5,
        checkpoint_every=9,
    )
    found = stored(fresh, run)
    assert found.info.run_name == "no_part-b64-s3-clip_norm=0.5-tiny-smoke-scenes"
    shown = found.data.params
    assert shown["train.batch"] == "64" and shown["seed"] == "3" and shown["corpora"] == "scenes"
    assert shown["train.betas"] == "0.9, 0.98" and shown["ranks"] == "2"
    assert "null" not in shown.values() and "None" not in shown.values()
    assert {key.split(".")[0] for key in shown} == {
        *("corpora", "model", "recipe", "seed", "launch", "ranks", "arithmetic", "train", "data", "superpixels")
    }
    location = Path(found.info.artifact_uri.removeprefix("file://")) / "settings.json"
    settings = json.loads(location.read_text())
    assert settings["train.batch"] == {"value": 64, "origin": "override train.batch"}
    assert settings["train.learning_rate"] == {"value": 0.001, "origin": "recipes.smoke"}
    assert settings["fetch.scenes.threads"]["value"] == 32 and "storage.root" in settings


def test_the_parameters_of_every_model_and_recipe_fit_into_one_request(params):
    for model in params.models:
        for recipe in params.recipes:
            assert len(parameters(params.model_copy(update={"model": model, "recipe": recipe}))) <= 100


def test_every_curve_of_a_training_has_a_name_in_a_section():
    """The columns are those of the committed run."""
    columns = Path("plots/train.csv").read_text().splitlines()[0].split(",")
    # Seconds of steps are written down since runs of this version.
    names = [curve_name(column) for column in columns if column not in ("step", "step_seconds")]
    assert sorted(names) == [
        "curves/speed/data_wait_share",
        "curves/speed/images_per_s",
        "curves/speed/padded_token_share",
        "curves/speed/peak_memory_mib",
        "curves/speed/tflops",
        "curves/temperature/part_bias",
        "curves/temperature/part_scale",
        "curves/temperature/whole_bias",
        "curves/temperature/whole_scale",
        "curves/train/clamped_pairs",
        "curves/train/grad_norm",
        "curves/train/learning_rate",
        "curves/train/loss",
        "curves/train/part_loss",
        "curves/train/samples",
        "curves/train/whole_loss",
        "curves/validation/i2t_r1",
        "curves/validation/part_t2i_r1",
        "curves/validation/t2i_r1",
    ]


# ---- parents


def test_seeds_have_a_parent_with_their_mean_and_deviation(fresh):
    runs = [training(fresh, "seed0")]
    assert family(fresh) == [("b48-s0-tiny-smoke-scenes",)]  # alone, it needs no parent
    training(fresh, "other", alike="b" * 16, batch=96)
    runs += [training(fresh, f"seed{seed}", seed) for seed in (1, 2)]
    children = [(SET, f"b48-s{seed}-tiny-smoke-scenes") for seed in range(3)]
    assert family(fresh) == [(SET,), *children, ("b96-s0-tiny-smoke-scenes",)]

    for run, score in zip(runs, (40.0, 50.0, 60.0), strict=True):
        run.log_scores("retrieval", {"random": {"t2i_r1": score}})
    runs[0].log_scores("grounding", {"phrase": {"miou": 33.0}})  # of one run only: no mean of it
    parent = named(fresh, SET)
    assert parent.data.metrics == {"retrieval/random/t2i_r1": 50, "sd/retrieval/random/t2i_r1": 10}
    assert parent.data.params == {
        key: value for key, value in stored(fresh, runs[0]).data.params.items() if key != "seed"
    }
    assert parent.info.status == "FINISHED"
    runs[2].log_scores("retrieval", {"random": {"t2i_r1": 51.0}})
    assert named(fresh, SET).data.metrics["retrieval/random/t2i_r1"] == 47


def test_experiments_from_one_commit_have_a_parent_and_seed_sets_are_inside(fresh, monkeypatch):
    before = training(fresh, "b48 s0")  # by `dvc repro`; the sweep below contains it
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "0123456789abcdef")
    assert training(fresh, "b48 s0").run_id == before.run_id
    assert family(fresh) == [("b48-s0-tiny-smoke-scenes",)]
    training(fresh, "b96 s0", alike="b" * 16, batch=96)
    top = "0123456 experiments"
    assert family(fresh) == [(top,), (top, "b48-s0-tiny-smoke-scenes"), (top, "b96-s0-tiny-smoke-scenes")]

    training(fresh, "b48 s1", 1)
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "fedcba9876543210")
    training(fresh, "b24 s0", alike="c" * 16, batch=24)
    expected = [
        ("b24-s0-tiny-smoke-scenes",),
        (top,),
        (top, SET),
        (top, SET, "b48-s0-tiny-smoke-scenes"),
        (top, SET, "b48-s1-tiny-smoke-scenes"),
        (top, "b96-s0-tiny-smoke-scenes"),
    ]
    assert family(fresh) == sorted(expected)
    training(fresh, "b96 s0", alike="b" * 16, batch=96)  # part of the later sweep too, which shows it from now on
    later = "fedcba9 experiments"
    assert (later, "b96-s0-tiny-smoke-scenes") in family(fresh) and (later, "b24-s0-tiny-smoke-scenes") in family(fresh)


def test_rows_of_an_ablation_have_a_parent_also_as_experiments(fresh, monkeypatch):
    training(fresh, "flair", overlays=["pipelines/ablation/flair.yaml"])
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "0123456789abcdef")
    training(fresh, "no_part", overlays=["pipelines/ablation/no_part.yaml"], alike="b" * 16)
    training(fresh, "mine", overlays=["mine.yaml"], alike="c" * 16)  # in no folder: an experiment like others
    top = "ablation tiny-smoke"
    assert family(fresh) == [
        (top,),
        (top, "flair-b48-s0-tiny-smoke-scenes"),
        (top, "no_part-b48-s0-tiny-smoke-scenes"),
        ("mine-b48-s0-tiny-smoke-scenes",),
    ]


def test_a_seed_that_was_trained_through_an_overlay_without_effect_is_in_the_set(fresh):
    """Such is the ablation's row of the full model."""
    training(fresh, "seed0")
    training(fresh, "seed1", 1, overlays=["pipelines/ablation/hierarchical_loss.yaml"])
    assert [path[1:] for path in family(fresh)] == [
        (),
        ("b48-s0-tiny-smoke-scenes",),
        ("hierarchical_loss-b48-s1-tiny-smoke-scenes",),
    ]


def test_a_parent_that_was_deleted_is_made_again(fresh):
    runs = [training(fresh, f"seed{seed}", seed) for seed in (0, 1)]
    for run, score in zip(runs, (40.0, 50.0), strict=True):
        run.log_scores("retrieval", {"t2i_r1": score})
    first = named(fresh, SET)
    client = MlflowClient(tracking_uri(fresh))
    client.delete_run(first.info.run_id)
    runs[1].log_scores("retrieval", {"t2i_r1": 50.0})
    again = named(fresh, SET)
    assert again.info.run_id != first.info.run_id
    assert again.data.metrics["retrieval/t2i_r1"] == 45
    client.delete_run(again.info.run_id)
    assert training(fresh, "seed0").run_id == runs[0].run_id
    assert family(fresh) == [(SET,), *((SET, f"b48-s{seed}-tiny-smoke-scenes") for seed in (0, 1))]


# ---- the code's changes, and runs that nobody has open


@pytest.fixture
def edited(tmp_path, monkeypatch):
    """A checkout of git, which is this process's folder, and a function that calls git there."""

    def git(*arguments):
        command = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    (tmp_path / "caft").mkdir()
    (tmp_path / "caft/train.py").write_text("loss = 1\n")
    (tmp_path / "notes.txt").write_text("a\n")
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "Code")
    monkeypatch.chdir(tmp_path)
    return git


def test_a_run_of_edited_code_says_so_and_keeps_the_diff(fresh, edited, tmp_path):
    run = opened(fresh, "code")
    assert "caft.changes" not in stored(fresh, run).data.tags
    (tmp_path / "notes.txt").write_text("no code\n")
    assert "caft.changes" not in stored(fresh, opened(fresh, "code")).data.tags

    (tmp_path / "caft/train.py").write_text("loss = 100\n")
    found = stored(fresh, opened(fresh, "code"))
    whole = edited("diff", "HEAD", "--", "caft")
    assert found.data.tags["caft.changes"] == hashlib.sha256(whole.encode()).hexdigest()[:16]
    assert found.data.tags["mlflow.source.git.commit"] == edited("rev-parse", "HEAD").strip()
    assert "-loss = 1\n+loss = 100\n" in artifact(found, "changes.diff")

    (tmp_path / "caft/new.py").write_text("loss = 3\n")  # which git does not know
    edited("add", "caft/train.py")
    again = stored(fresh, opened(fresh, "code"))
    assert again.data.tags["caft.changes"] != found.data.tags["caft.changes"]
    assert "+loss = 100\n" in artifact(again, "changes.diff") and "+loss = 3\n" in artifact(again, "changes.diff")

    Path(os.fsdecode(bytes(tmp_path / "caft") + b"/caf\xe9.py")).write_text("loss = 4\n")  # a name in Latin-1
    named = stored(fresh, opened(fresh, "code"))
    assert named.data.tags["caft.changes"] != again.data.tags["caft.changes"]
    assert "+loss = 4\n" in artifact(named, "changes.diff")


def artifact(run, name):
    return (Path(run.info.artifact_uri.removeprefix("file://")) / name).read_text()


def test_a_long_diff_is_a_digest_alone(fresh, edited, tmp_path):
    (tmp_path / "caft/table.txt").write_text("a line\n" * 200_000)
    found = stored(fresh, opened(fresh, "long"))
    assert len(found.data.tags["caft.changes"]) == 16
    assert not (Path(found.info.artifact_uri.removeprefix("file://")) / "changes.diff").exists()


OPEN = """
import sys, time
from caft.params import load_params
from caft.train.tracking.runs import open_run
params = load_params("params.yaml", values=[f"storage.root={sys.argv[1]}", f"storage.experiment={sys.argv[2]}"])
run = open_run(params, sys.argv[3], sys.argv[3], {}, {})
if len(sys.argv) > 4:
    run.set_job(sys.argv[4])
print(run.run_id, flush=True)
time.sleep(600)
"""


def test_runs_whose_process_or_job_is_gone_are_ended_by_whoever_comes_next(fresh):
    def status(run_id):
        return MlflowClient(tracking_uri(fresh)).get_run(run_id).info.status

    others = []
    for words in (["killed"], ["alive"], ["waiting", "71"], ["over", "72"]):
        command = [sys.executable, "-c", OPEN, fresh.storage.root, fresh.storage.experiment, *words]
        others.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    try:
        killed, alive, waiting, over = (process.stdout.readline().strip() for process in others)
        elsewhere = opened(fresh, "elsewhere").run_id
        MlflowClient(tracking_uri(fresh)).set_tag(elsewhere, "caft.host", "another-machine")
        mine = opened(fresh, "mine")
        assert {status(run_id) for run_id in (killed, alive, waiting, over)} == {"RUNNING"}
        for number in (0, 2, 3):
            others[number].kill()
            others[number].wait()
        opened(fresh, "next")  # by a stage that knows of no jobs
        assert [status(run_id) for run_id in (killed, alive, waiting, over)] == ["KILLED", *["RUNNING"] * 3]
        open_training(fresh, "training", "alike", [], over=lambda job: job == "72")
        assert [status(run_id) for run_id in (killed, alive, waiting, over)] == ["KILLED", *["RUNNING"] * 2, "KILLED"]
        assert status(elsewhere) == status(mine.run_id) == "RUNNING"
    finally:
        for process in others:
            process.kill()
            process.wait()


def test_a_number_that_another_process_has_now_is_not_taken_for_the_first_one(fresh):
    run = opened(fresh, "reused")
    client = MlflowClient(tracking_uri(fresh))
    client.set_tag(run.run_id, "caft.process_started", "12345.0")  # this process's number, but not its start
    opened(fresh, "next")
    assert stored(fresh, run).info.status == "KILLED"


class Slow(MlflowClient):
    """One before whom somebody else deletes the newest run that it has found."""

    def search_runs(self, *arguments, **options):
        found = super().search_runs(*arguments, **options)
        self.delete_run(found[0].info.run_id)
        return found


def test_a_run_that_cannot_be_ended_keeps_no_other_from_being_opened(fresh, caplog):
    first, second = opened(fresh, "first"), opened(fresh, "second")
    client = Slow(tracking_uri(fresh))
    for run in (first, second):
        client.set_tag(run.run_id, "caft.process_started", "12345.0")
    experiment = stored(fresh, first).info.experiment_id
    with caplog.at_level(logging.WARNING):
        origin.end_abandoned(client, experiment, None, None)
    assert (stored(fresh, second).info.lifecycle_stage, stored(fresh, first).info.status) == ("deleted", "KILLED")
    assert "is gone; it cannot be ended: " in caplog.text
