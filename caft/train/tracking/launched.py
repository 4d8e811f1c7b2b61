"""How the training of a run was launched, as the tracker recorded it."""

from caft import storage
from caft.errors import TrackingError
from caft.params import Params
from caft.train.tracking.server import shown


def parameters_of(params: Params, run_id: str) -> dict[str, str]:
    """Returns a run's parameters, such as model, recipe, launch and ranks; none of a run that was only scored.

    Raises:
        TrackingError: The tracker cannot be reached, or has no such run.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    uri = storage.tracking_uri(params)
    try:
        return dict(MlflowClient(tracking_uri=uri, registry_uri=uri).get_run(run_id).data.params)
    except MlflowException as error:
        raise TrackingError(
            shown(f"MLflow at {uri}: the run {run_id} cannot be read: {error}; check storage.tracking_uri")
        ) from error
