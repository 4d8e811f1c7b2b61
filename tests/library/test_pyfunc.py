"""The model that `train` logs, loaded by MLflow alone in a fresh process, scores as the library does."""

import base64
import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from caft.adapters import pyfunc
from caft.errors import DataError
from caft.params import load_params
from caft.storage import tracking_uri
from caft.train.tracking.runs import open_run

PROJECT = Path(__file__).parents[2]
CAPTIONS = [
    "A dog.",
    "A red cat on a mat. It sleeps. The mat is green.",
    "A red cat on a mat. It sleeps. The mat is green.",
]
SCORE = """
import json, sys
import mlflow, pandas

address, name, table = sys.argv[1:]
mlflow.set_tracking_uri(address)
model = mlflow.pyfunc.load_model(name)
rows = pandas.DataFrame(json.loads(table))
scores = [list(model.predict(rows, params)) for params in ({"part_weight": 0.0}, {"part_weight": 0.7}, None)]
import caft
print(json.dumps([caft.__file__, *scores]))
"""


def table(pictures):
    """A path, base64 of a file and a data URL; one picture comes twice."""
    code = base64.b64encode(pictures[1].read_bytes()).decode()
    return {"image": [str(pictures[0]), code, f"data:image/jpeg;base64,{code}"], "caption": CAPTIONS}


@pytest.fixture(scope="module")
def logged(tmp_path_factory, model_file):
    """A run whose model was logged twice, as by a stage that is repeated."""
    settings = load_params(PROJECT / "params.yaml")
    storage = settings.storage.model_copy(update={"root": str(tmp_path_factory.mktemp("tracking"))})
    params = settings.model_copy(update={"storage": storage})
    run = open_run(params, "f" * 16, "a run", {}, {})
    client = MlflowClient(tracking_uri(params))
    made = client.create_logged_model(client.get_run(run.run_id).info.experiment_id, "model", run.run_id)  # was killed
    from mlflow.entities import LoggedModelOutput

    client.log_outputs(run.run_id, [LoggedModelOutput(made.model_id, 0)])
    run.log_model(model_file)
    run.log_model(model_file)
    return client, client.get_run(run.run_id), made.model_id


@pytest.mark.slow
def test_it_scores_in_a_process_of_its_own_as_the_library_does(logged, model, pictures, tmp_path):
    client, run, _ = logged
    command = [sys.executable, "-c", SCORE, client.tracking_uri, f"runs:/{run.info.run_id}/model"]
    done = subprocess.run([*command, json.dumps(table(pictures))], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    where, whole, part, usual = json.loads(done.stdout.splitlines()[-1])
    assert Path(where).parents[1].name == "code" and PROJECT not in Path(where).parents  # the code that was logged
    several = [pictures[0], pictures[1], pictures[1]]
    for weight, scores in ((0.0, whole), (0.7, part), (0.3, usual)):
        expected = [model.similarity(p, c, part_weight=weight).item() for p, c in zip(several, CAPTIONS, strict=True)]
        assert scores == pytest.approx(expected, abs=1e-4)


def test_a_run_has_one_model_with_signature_and_requirements(logged):
    client, run, killed = logged
    found = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    [made] = found
    assert made.status == "READY" and made.name == "model" and made.model_id != killed
    folder = Path(made.artifact_location.removeprefix("file:"))
    from mlflow.models import Model

    signature = Model.load(str(folder)).signature
    assert signature.inputs.input_names() == ["image", "caption"]
    assert [(spec.name, spec.default) for spec in signature.params] == [("part_weight", 0.3)]
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert {line.split("==")[0] for line in lines} == {"mlflow", *pyfunc._CORE}
    assert f"numpy=={np.__version__}" in lines and not any("+" in line for line in lines)
    assert not list(folder.rglob("__pycache__"))


def test_the_requirements_are_the_core_dependencies():
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert list(pyfunc._CORE) == [re.match(r"[\w.-]+", line)[0] for line in declared]
    assert pyfunc.requirements("spacy") == [*pyfunc.requirements("dreamlip"), f"spacy=={metadata.version('spacy')}"]


def test_what_is_no_picture_is_named(model):
    rows = pd.DataFrame({"image": ["absent.jpg"], "caption": ["A cat."]})
    with pytest.raises(DataError, match="row 0, image 'absent.jpg': no such file here, and not base64"):
        pyfunc.PairScores(model).predict(rows)
    assert pyfunc.PairScores(model).predict(rows[:0]).shape == (0,)
