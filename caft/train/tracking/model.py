"""The trained model in MLflow, as a `pyfunc` that anyone with MLflow can load."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import caft
from caft.adapters import pyfunc
from caft.weights.files import read_card

if TYPE_CHECKING:
    from mlflow import MlflowClient
# As `runs:/<run>/model` finds it.
NAME = "model"


def log_model(client: MlflowClient, run_id: str, weights: Path) -> None:
    """Logs weights with their card as the model of a run, unless the run has one; a model that is half logged is replaced."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model, ModelSignature
    from mlflow.pyfunc import save_model
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    experiment = client.get_run(run_id).info.experiment_id
    for known in client.search_logged_models([experiment], f"source_run_id = '{run_id}' AND name = '{NAME}'"):
        if known.status == "READY":
            return
        client.delete_logged_model(known.model_id)
    card = read_card(weights)
    part_weight = pyfunc.default_part_weight(card.sizes.grounding is not None)
    made = client.create_logged_model(experiment, NAME, source_run_id=run_id)
    client.log_outputs(run_id, [LoggedModelOutput(made.model_id, step=0)])
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*input example was not provided")  # it would load the model and run it
        data, saved = Path(folder, "data"), Path(folder, NAME)
        data.mkdir()
        (data / pyfunc.WEIGHTS).symlink_to(weights.resolve())  # MLflow copies what it points to
        (data / pyfunc.CARD).symlink_to(weights.with_suffix(".json").resolve())
        save_model(
            saved,
            loader_module=pyfunc.__name__,
            data_path=data,
            code_paths=[Path(caft.__file__).parent],  # this very version; the project is in no package index
            pip_requirements=pyfunc.requirements(card.splitter),  # else MLflow loads the model to find them
            signature=ModelSignature(
                inputs=Schema([ColSpec("string", name) for name in pyfunc.COLUMNS]),
                outputs=Schema([ColSpec("double")]),
                params=ParamSchema([ParamSpec("part_weight", "double", part_weight)]),
            ),
            mlflow_model=Model(artifact_path=made.artifact_location, run_id=run_id, model_id=made.model_id),
        )
        client.log_model_artifacts(made.model_id, str(saved))
    client.finalize_logged_model(made.model_id, "READY")
