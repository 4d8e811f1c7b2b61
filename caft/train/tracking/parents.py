"""Parents of runs in MLflow: a seed set, and above it a sweep or an ablation.

Runs that differ in the seed alone have one parent, with the mean and the deviation of their scores. Runs or seed sets
of one group have one above. Each appears with its second member, since a run alone needs none. Tags say who belongs
together, so a parent that was deleted is created again, and runs that were stored before are moved under it.
Call these functions one process at a time.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# On runs: hash and name of their seed set (the name may depend on the file that a setting stands in), name of their
# group. On a parent: the hash or name that its children have.
SEEDS_TAG, SEEDS_NAME_TAG, GROUP_TAG, PARENT_TAG = "caft.seeds", "caft.seeds.name", "caft.group", "caft.parent"
_PARENT_ID, _NOTE = "mlflow.parentRunId", "mlflow.note.content"


def place(client: MlflowClient, run_id: str) -> None:
    """Puts a run, and all that belong with it, under their parents."""
    run = client.get_run(run_id)
    group, key = run.data.tags.get(GROUP_TAG), run.data.tags.get(SEEDS_TAG)
    seeds = _tagged(client, run, SEEDS_TAG, key) if key else []
    if key and len(seeds) > 1:
        note = "Runs that differ in the seed alone. Scores are their mean; sd/ has the standard deviation."
        parent = _parent(client, run, key, run.data.tags[SEEDS_NAME_TAG], note, _shared(seeds))
        group = group or next((seed.data.tags[GROUP_TAG] for seed in seeds if GROUP_TAG in seed.data.tags), None)
        for seed in seeds:
            _tag(client, seed, {_PARENT_ID: parent.info.run_id})
        if group:  # a seed set is in one group: the latest
            for member in (parent, *seeds):
                _tag(client, member, {GROUP_TAG: group})
    if group:
        found = _tagged(client, run, GROUP_TAG, group)
        inside = {member.info.run_id for member in found}
        members = [member for member in found if member.data.tags.get(_PARENT_ID) not in inside]
        if len(members) > 1:
            note = "Runs of one sweep or ablation: select them and press Compare."
            parent = _parent(client, run, group, group, note, {})
            for member in members:
                _tag(client, member, {_PARENT_ID: parent.info.run_id})


def seed_scores(client: MlflowClient, run_id: str, prefix: str) -> tuple[str, dict[str, float]] | None:
    """Returns the seed set of a run, and the mean and deviation of the scores that at least two of its runs have.

    Returns:
        Id of the parent, and its metrics: means by the scores' own names, deviations (n - 1) under `sd/`; None if
        the run has no other seeds.
    """
    run = client.get_run(run_id)
    key = run.data.tags.get(SEEDS_TAG)
    parent = _find(client, run, key) if key else None
    if not key or parent is None:
        return None
    scores: dict[str, list[float]] = {}
    for seed in _tagged(client, run, SEEDS_TAG, key):
        for name, value in seed.data.metrics.items():
            if name.startswith(f"{prefix}/"):
                scores.setdefault(name, []).append(value)
    several = {name: values for name, values in scores.items() if len(values) > 1}
    means = {name: statistics.fmean(values) for name, values in several.items()}
    return parent.info.run_id, means | {f"sd/{name}": statistics.stdev(values) for name, values in several.items()}


def _parent(client: MlflowClient, child: Run, key: str, name: str, note: str, parameters: Mapping[str, str]) -> Run:
    """The parent of a key; created if it does not exist or was deleted."""
    if (found := _find(client, child, key)) is not None:
        return found
    from mlflow.entities import Param

    created = client.create_run(child.info.experiment_id, tags={PARENT_TAG: key, _NOTE: note}, run_name=name)
    client.log_batch(created.info.run_id, params=[Param(key, value) for key, value in parameters.items()])
    client.set_terminated(created.info.run_id)  # it is no process that could end later
    return client.get_run(created.info.run_id)


def _find(client: MlflowClient, child: Run, key: str) -> Run | None:
    return next(iter(_tagged(client, child, PARENT_TAG, key)), None)


def _tagged(client: MlflowClient, run: Run, key: str, value: str) -> list[Run]:
    """Runs of a run's experiment with a tag, the oldest first, without those that were deleted."""
    query = f"tags.`{key}` = '{value}'"
    found: list[Run] = client.search_runs([run.info.experiment_id], query, order_by=["attributes.start_time ASC"])
    return found


def _tag(client: MlflowClient, run: Run, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        if run.data.tags.get(key) != value:
            client.set_tag(run.info.run_id, key, value)


def _shared(runs: Sequence[Run]) -> dict[str, str]:
    """Parameters with the same value in all runs, so that seed sets can be compared like runs."""
    first = runs[0].data.params
    return {key: value for key, value in first.items() if all(run.data.params.get(key) == value for run in runs)}
