"""Runs in MLflow: one for each training fingerprint, found again when a run is resumed, scored or reported."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caft import storage
from caft.data import loopback
from caft.train.tracking import origin, views
from caft.train.tracking.moved import check_place
from caft.train.tracking.names import (
    constants,
    curve_name,
    description,
    group_name,
    headlines,
    parameters,
    run_name,
    score_names,
)
from caft.train.tracking.parents import GROUP_TAG, SEEDS_NAME_TAG, SEEDS_TAG, place, seed_scores
from caft.train.tracking.server import database_of, experiment_of, one_writer, translated

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from caft.params import Params

logger = logging.getLogger(__name__)

FINGERPRINT_TAG, NOTE_TAG = "caft.fingerprint", "mlflow.note.content"
EXTERNAL_TAG = "caft.external"  # sha256 of given weights, which no training here made
# Limits of MLflow's API. Its client splits many metrics or parameters into several requests by itself.
_LONGEST_PARAMETER, _LONGEST_DIGEST = 6000, 36


def open_training(
    params: Params,
    fingerprint: str,
    alike: str,
    overlays: Sequence[Path | str],
    over: Callable[[str], bool] | None = None,
) -> Run:
    """Opens the run of a training, among the other seeds and the sweep or ablation that it belongs to.

    The fingerprint is a hash of everything that changes the training's result; `alike` is the same without seed and superpixel
    weights, which depend on the seed. `over` tells whether a job of a cluster, by its id, will not run again.

    Raises:
        TrackingError: The tracker cannot be reached, or its experiment was deleted.
    """
    alike += params.superpixels.model_dump_json()  # what the superpixel weights are made with
    key = hashlib.sha256(alike.encode()).hexdigest()[:16]
    tags = {SEEDS_TAG: key, SEEDS_NAME_TAG: run_name(params, overlays, "seeds")}
    if group := group_name(params, overlays):
        tags[GROUP_TAG] = group
    name, note = run_name(params, overlays, f"s{params.seed}"), description(params)
    run = open_run(params, fingerprint, name, tags, parameters(params), over, note)
    run.log_settings(params.effective())
    return run


def open_run(
    params: Params,
    fingerprint: str,
    name: str,
    tags: Mapping[str, str],
    parameters: Mapping[str, object],
    over: Callable[[str], bool] | None = None,
    note: str = "",
) -> Run:
    """Opens the run of a fingerprint, or creates it with its experiment and its database.

    A run that exists keeps its name, and its parameters where they differ: equal fingerprints mean equal results, so
    only how the work was launched can have changed.

    The name is that of a new run; `note`, user and source are set where the run has none. The tags are set, as are the
    commit, a digest of uncommitted changes of the code, which are stored as `changes.diff`, the name of the DVC experiment
    and the process; the run's state is RUNNING. Other runs whose process or job, of which `over` tells, is gone are
    ended.

    Raises:
        TrackingError: The tracker cannot be reached, its experiment was deleted, or its storage was copied or moved.
    """
    uri = storage.tracking_uri(params)
    with translated(uri), one_writer(params):
        client = _client(uri)
        experiment = experiment_of(client, params, uri)
        check_place(client.get_experiment(experiment).artifact_location, params, uri)
        changed = origin.diff()
        query = f"tags.`{FINGERPRINT_TAG}` = '{fingerprint}'"
        found = client.search_runs([experiment], query, max_results=1, order_by=["attributes.start_time ASC"])
        run = found[0] if found else client.create_run(experiment, tags={FINGERPRINT_TAG: fingerprint}, run_name=name)
        run_id = run.info.run_id
        origin.end_abandoned(client, experiment, run_id, over)
        client.update_run(run_id, status="RUNNING")
        described = {key: value for key, value in {**origin.source(), NOTE_TAG: note}.items() if value}
        new = {key: value for key, value in described.items() if not run.data.tags.get(key)}
        for key, value in {**new, **origin.tags(changed), **tags}.items():
            client.set_tag(run_id, key, value)
        if changed:
            logger.warning("the code has changes since commit %.7s: %s", origin.commit(), origin.digest(changed))
            if len(changed) <= origin.LONGEST_DIFF:
                client.log_text(run_id, changed.decode(errors="replace"), "changes.diff")
        opened = Run(client, params, uri, run_id)
        opened._log_parameters(parameters)
        place(client, run_id)
    return opened


def page_of_scores(params: Params, server: str) -> str:
    """The address of the runs, with their scores as columns, on MLflow's pages at `server`.

    Raises:
        TrackingError: The tracker cannot be reached.
    """
    uri = storage.tracking_uri(params)
    with translated(uri):
        return views.address(_client(uri), params.storage.experiment, server)


class Run:
    """An open run; made by `open_run`. Every method raises a TrackingError if the tracker cannot be reached."""

    def __init__(self, client: MlflowClient, params: Params, uri: str, run_id: str) -> None:
        self.run_id = run_id
        self._client = client
        self._params = params
        self._uri = uri
        self._last_step: dict[str, int] = {}

    def log_metrics(self, rows: Sequence[tuple[int, Mapping[str, float | None]]]) -> None:
        """Logs curves; points up to the last stored step of a metric are left out, so a resumed run can replay all.

        A row has the columns of plots/train.csv at a step; None and the key `step` are left out.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = []
        with translated(self._uri):
            for step, row in rows:
                # The compare page plots the metric that was stored first, so not the count of samples.
                for column, value in sorted(row.items(), key=lambda item: item[0] == "samples"):
                    key = curve_name(column)
                    if column == "step" or value is None or step <= self._stored(key):
                        continue
                    self._last_step[key] = step
                    points.append(Metric(key, float(value), now, step))
            try:
                self._client.log_batch(self.run_id, metrics=points)
            except BaseException:
                self._last_step.clear()  # the tracker may have taken some: it is asked the next time
                raise

    def log_scores(self, prefix: str, scores: Mapping[str, Any]) -> None:
        """Logs the scores of nested dicts as `prefix/outer/inner`, and all that is in them as `scores/prefix.json`.

        Sizes and chances of sets are tags, `caft.set.prefix/outer`. A score is stored again only if it changed. If the
        run has other seeds, its parent gets mean and deviation. The experiment's view gets the scores as columns.
        """
        with translated(self._uri):
            named = dict(score_names(prefix, scores))
            self._replace(self.run_id, named)
            for key, value in constants(prefix, scores).items():
                self._client.set_tag(self.run_id, key, value)
            self._client.log_dict(self.run_id, dict(scores), f"scores/{prefix}.json")
            with one_writer(self._params):
                views.show(self._client, self._client.get_run(self.run_id).info.experiment_id, headlines(named))
                self._over_seeds(prefix)

    def log_figures(self, prefix: str, figures: Mapping[str, Any]) -> None:
        """Logs the numbers of a flat dict as `prefix/key`, also over the seeds, as `log_scores` does."""
        numbers = {f"{prefix}/{key}": float(value) for key, value in figures.items() if isinstance(value, int | float)}
        with translated(self._uri):
            self._replace(self.run_id, numbers)
            with one_writer(self._params):
                self._over_seeds(prefix)

    def _over_seeds(self, prefix: str) -> None:
        place(self._client, self.run_id)
        if over_seeds := seed_scores(self._client, self.run_id, prefix):
            self._replace(*over_seeds)

    def deviations(self, prefix: str) -> dict[str, float]:
        """Standard deviation over the seeds of this run's set of each score, by its name; empty for a single seed."""
        with translated(self._uri):
            found = seed_scores(self._client, self.run_id, prefix)
        scores = found[1] if found else {}
        return {name.removeprefix("sd/"): value for name, value in scores.items() if name.startswith("sd/")}

    def log_settings(self, effective: Mapping[str, tuple[Any, str]]) -> None:
        """Stores all effective settings, with the origin of each, as settings.json."""
        table = {key: {"value": value, "origin": origin} for key, (value, origin) in effective.items()}
        with translated(self._uri):
            self._client.log_dict(self.run_id, table, "settings.json")

    def log_file(self, path: Path | str) -> None:
        """Stores a file among the run's artifacts, under its name."""
        with translated(self._uri):
            self._client.log_artifact(self.run_id, str(path))

    def log_model(self, weights: Path) -> None:
        """Stores weights with their card as the run's model, once; docs/tracking.md says how to use it."""
        from caft.train.tracking.model import log_model

        with translated(self._uri):
            log_model(self._client, self.run_id, weights)

    def log_data(self, corpora: Mapping[str, Mapping[str, Any]]) -> None:
        """Records the corpora as the run's dataset inputs: from metrics/data.json, fingerprints and counts of rows."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = []
        for name, facts in corpora.items():
            counts = {key: value for key, value in facts.items() if key != "fingerprint"}
            dataset = Dataset(
                name=name,
                digest=str(facts["fingerprint"])[:_LONGEST_DIGEST],
                source_type="local",
                source=json.dumps({"uri": f"data/images/{name}.json"}),
                profile=json.dumps(counts, sort_keys=True),
            )
            inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", "training")]))
        with translated(self._uri):
            self._client.log_inputs(self.run_id, inputs)

    def set_job(self, job: str) -> None:
        """Says which job of a cluster trains the run: it outlives the process that follows it."""
        with translated(self._uri):
            self._client.set_tag(self.run_id, origin.JOB_TAG, job)

    def finish(self, status: str = "FINISHED") -> None:
        """Ends the run as FINISHED, FAILED or KILLED; it can be opened again."""
        with translated(self._uri):
            self._client.set_terminated(self.run_id, status)

    def _stored(self, key: str) -> int:
        """Last step of a metric in the tracker, -1 without any; asked once, since later points are our own."""
        if key not in self._last_step:
            history = self._client.get_metric_history(self.run_id, key)
            self._last_step[key] = max((point.step for point in history), default=-1)
        return self._last_step[key]

    def _replace(self, run_id: str, values: Mapping[str, float]) -> None:
        """Logs the values that a run does not have yet."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        stored = self._client.get_run(run_id).data.metrics
        points = [
            Metric(key, value, max(now, self._last_time(run_id, key) + 1) if key in stored else now, 0)
            for key, value in values.items()
            if stored.get(key) != value
        ]
        self._client.log_batch(run_id, metrics=points)

    def _last_time(self, run_id: str, key: str) -> int:
        """Time of the newest point of a metric; of equal steps the tracker shows that one, wherever the clock stands."""
        return max(point.timestamp for point in self._client.get_metric_history(run_id, key))

    def _log_parameters(self, parameters: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        stored = self._client.get_run(self.run_id).data.params
        new = []
        for key, value in parameters.items():
            text = str(value)[:_LONGEST_PARAMETER]
            if key not in stored:
                new.append(Param(key, text))
            elif stored[key] != text:
                logger.info("the run keeps %s = %s of its first start; now it is %s", key, stored[key], text)
        self._client.log_batch(self.run_id, params=new)


def _client(uri: str) -> MlflowClient:
    """A client, with telemetry off and without the chatter of the first start."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    loopback.spare()
    # A server that is down should be reported within a minute; MLflow's own limit is several minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(
        logging.CRITICAL
    )  # each error with its trace; it is raised, too
    from mlflow import MlflowClient

    if (path := database_of(uri)) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # MLflow would retry a file that cannot be opened for a minute and a half.
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA schema_version")
    return MlflowClient(tracking_uri=uri, registry_uri=uri)
