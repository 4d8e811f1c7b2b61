"""How the experiment is shown in MLflow's pages: as model training, with a saved view whose columns are scores."""

import json
from collections.abc import Sequence
from typing import Any

# The key of the view in addresses: `#/experiments/1/runs?viewStateShareKey=scores`.
VIEW = "scores"
# Names of MLflow 3.17. A table has no columns of metrics by itself, and no setting for its first ones.
_KIND_TAG, _KIND = "mlflow.experimentKind", "custom_model_development"
_VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
_MADE = 0  # when the view was made; pages write the time when a person changes it
_MOST = 4
_WIDTH = 80  # pixels: four stand beside names, dates and durations in a window of 1,440, its panels open


def show(client: Any, experiment: str, metrics: Sequence[str]) -> None:
    """Adds columns to the view, at most four in all; one that a person has changed is left as it is."""
    tags = client.get_experiment(experiment).tags
    if _KIND_TAG not in tags:
        client.set_experiment_tag(experiment, _KIND_TAG, _KIND)
    view = _read(tags.get(_VIEW_TAG))
    if view is None:
        return
    known = view["metrics"]
    columns = list(dict.fromkeys([*known, *metrics]))[:_MOST]
    if columns != known:
        client.set_experiment_tag(experiment, _VIEW_TAG, _written(columns))


def address(client: Any, name: str, server: str) -> str:
    """The page of an experiment's runs with these columns, on a server such as `http://127.0.0.1:5000`."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None or _VIEW_TAG not in experiment.tags:
        return server
    runs = f"{server}/#/experiments/{experiment.experiment_id}/runs"
    return f"{runs}?workflowType=machine_learning&viewStateShareKey={VIEW}"


def _read(value: str | None) -> dict[str, Any] | None:
    """Metrics of the view as this project wrote it; None of another's."""
    if value is None:
        return {"metrics": []}
    try:
        view = json.loads(value)
        if view["createdAt"] != _MADE or view["updatedAt"] != _MADE:
            return None
        columns = json.loads(view["state"])["selectedColumns"]
        return {"metrics": [column.split("`")[1] for column in columns if column.startswith("metrics.")]}
    except (ValueError, KeyError, TypeError, IndexError):
        return None


def _written(metrics: Sequence[str]) -> str:
    columns = [f"metrics.`{name}`" for name in metrics]
    widths = {column: _WIDTH for column in columns}
    state = {"selectedColumns": columns, "columnOrder": [], "columnWidths": widths}
    return json.dumps({"name": "Scores", "createdAt": _MADE, "updatedAt": _MADE, "state": json.dumps(state)})
