"""A storage that was copied: nothing is written into the original, and the command sets the copy to its own place."""

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path
from sqlalchemy.engine import make_url

from caft.errors import TrackingError
from caft.params import load_params
from caft.storage import tracking_uri
from caft.train.tracking.moved import mend
from caft.train.tracking.runs import open_run
from caft.train.tracking.server import database_of

pytestmark = pytest.mark.slow


def stored_in(root: Path):
    """Settings whose storage is a folder."""
    loaded = load_params("params.yaml")
    return loaded.model_copy(update={"storage": loaded.storage.model_copy(update={"root": str(root)})})


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with a run that has an artifact, and a logged model."""
    root = tmp_path_factory.mktemp("made here") / "storage"
    root.mkdir()
    params = stored_in(root)
    run = open_run(params, "one", "one", {}, {})
    (root / "note.txt").write_text("made")
    run.log_file(root / "note.txt")
    client = MlflowClient(tracking_uri(params))
    experiment = client.get_experiment_by_name(params.storage.experiment)
    model = client.create_logged_model(experiment.experiment_id, name="model", source_run_id=run.run_id)
    folder = Path(run_folder(model.artifact_location))
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_text(f"artifact_path: {model.artifact_location}\nrun_id: {run.run_id}\n")
    return root


def run_folder(location: str) -> str:
    return local_file_uri_to_path(location) if location.startswith("file:") else location


@pytest.mark.parametrize("moved", [False, True])
def test_a_copied_storage_is_refused_until_the_command_has_mended_it(made: Path, tmp_path: Path, moved: bool) -> None:
    original, copy = tmp_path / "a (1)" / "storage", tmp_path / "elsewhere" / "storage"
    shutil.copytree(made, original)
    mend(stored_in(original))
    shutil.copytree(original, copy)
    if moved:
        shutil.rmtree(original)
    before = None if moved else files(original)
    with pytest.raises(TrackingError) as caught:
        open_run(stored_in(copy), "two", "two", {}, {})
    words = str(caught.value)
    assert f"below {original}" in words and f"this storage is {copy}" in words
    assert "Run `python -m pipelines.moved`" in words
    command = [sys.executable, "-m", "pipelines.moved", "--set", f"storage.root={copy}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"all artifacts are below {copy}" in done.stdout and "of experiments" in done.stdout
    params = stored_in(copy)
    run = open_run(params, "two", "two", {}, {})
    (tmp_path / "new.txt").write_text("new")
    run.log_file(tmp_path / "new.txt")
    assert (copy / "mlartifacts" / run.run_id / "artifacts/new.txt").read_text() == "new"
    if not moved:
        assert files(original) == before
    # What was there is found in the copy, by MLflow itself.
    client = MlflowClient(tracking_uri(params))
    (one,) = client.search_runs(["1"], "attributes.run_name = 'one'")
    assert Path(client.download_artifacts(one.info.run_id, "note.txt")).read_text() == "made"
    assert Path(run_folder(one.info.artifact_uri)).is_relative_to(copy)
    (model,) = client.search_logged_models(["1"])
    assert Path(run_folder(model.artifact_location)).is_relative_to(copy)
    (description,) = copy.rglob("MLmodel")
    assert model.artifact_location in description.read_text()
    assert str(original) not in description.read_text() and original.as_uri() not in description.read_text()
    assert mend(params) == {}


def test_a_storage_inside_the_one_of_before_is_set_once(made: Path, tmp_path: Path) -> None:
    original = tmp_path / "storage"
    shutil.copytree(made, original)
    mend(stored_in(original))
    copy = original / "copy"
    shutil.copytree(made, copy)
    shutil.copyfile(original / "mlflow.db", copy / "mlflow.db")
    for description, there in zip(copy.rglob("MLmodel"), (original / "mlartifacts").rglob("MLmodel"), strict=True):
        shutil.copyfile(there, description)
    # An experiment that was begun here: its artifacts lie here already, below the place of before.
    params = stored_in(copy)
    other = params.model_copy(update={"storage": params.storage.model_copy(update={"experiment": "other"})})
    open_run(other, "new", "new", {}, {})
    mend(params)
    client = MlflowClient(tracking_uri(params))
    for name in (params.storage.experiment, "other"):
        experiment = client.get_experiment_by_name(name)
        assert run_folder(experiment.artifact_location) == str(copy / "mlartifacts")
        (run,) = client.search_runs([experiment.experiment_id])
        assert run_folder(run.info.artifact_uri) == str(copy / "mlartifacts" / run.info.run_id / "artifacts")
    assert mend(params) == {}


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "no such table"), (b"no database" * 100, "not a database"), (None, "readonly database")]
)
def test_a_database_that_cannot_be_set_is_one_error(
    made: Path, tmp_path: Path, content: bytes | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is None:
        shutil.copyfile(made / "mlflow.db", tmp_path / "mlflow.db")
        connect = sqlite3.connect  # whoever runs this may be root, whom modes do not stop
        monkeypatch.setattr(sqlite3, "connect", lambda path: connect(f"file:{path}?mode=ro", uri=True))
    else:
        (tmp_path / "mlflow.db").write_bytes(content)
    with pytest.raises(TrackingError, match=said):
        mend(stored_in(tmp_path))


@pytest.mark.parametrize(
    "uri", ["sqlite:////a b/c#1/mlflow.db", "sqlite:///here.db", "sqlite:////a/mlflow.db?timeout=9"]
)
def test_a_tracker_s_file_is_the_one_that_mlflow_opens(uri: str) -> None:
    assert str(database_of(uri)) == make_url(uri).database


def test_another_way_to_the_same_folder_is_no_move(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "storage"
    shutil.copytree(made, copy)
    mend(stored_in(copy))
    (tmp_path / "mount").symlink_to(copy)
    # As a second mount: the path itself, not where it leads to.
    monkeypatch.setattr("caft.storage.root", lambda params: tmp_path / "mount")
    open_run(stored_in(copy), "one", "one", {}, {})


def test_a_server_or_a_database_elsewhere_does_not_move(made: Path, tmp_path: Path) -> None:
    params = stored_in(tmp_path)
    with pytest.raises(TrackingError, match="is no SQLite database in"):
        mend(params)
    elsewhere = params.storage.model_copy(update={"tracking_uri": f"sqlite:///{made / 'mlflow.db'}"})
    params = params.model_copy(update={"storage": elsewhere})
    open_run(params, "one", "one", {}, {})  # shared by checkouts on purpose
    with pytest.raises(TrackingError, match="is no SQLite database in"):
        mend(params)
