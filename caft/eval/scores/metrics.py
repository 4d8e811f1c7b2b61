"""How scores are written: rounded, sorted, and into the run of the model that they belong to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caft import storage
from caft.model.card import ModelCard
from caft.params import Params
from caft.train.tracking.runs import EXTERNAL_TAG, Run, open_run


def publish(params: Params, card: ModelCard, path: Path, scores: Mapping[str, Any]) -> None:
    """Writes `metrics/<name>.json` and logs its scores into the model's run, under names that begin with `<name>`.

    Raises:
        TrackingError: The tracker cannot be reached; the file is written nevertheless.
    """
    storage.write_json(path, rounded(scores))
    log_scores(params, card, path.stem, scores)


def log_scores(params: Params, card: ModelCard, name: str, scores: Mapping[str, Any]) -> None:
    """Logs scores into the run of a model, under names that begin with `name`.

    Raises:
        TrackingError: The tracker cannot be reached.
    """
    run = run_of(params, card)
    run.log_scores(name, rounded(scores))
    run.finish()


def run_of(params: Params, card: ModelCard) -> Run:
    """Opens the run that trained a model; given weights get one of their own, with the tag `caft.external`, their digest.

    Raises:
        TrackingError: The tracker cannot be reached.
    """
    fingerprint = str(card.fingerprint)
    if card.external is not None:
        tags = {EXTERNAL_TAG: card.external}
        note = f"Scores of given weights, **{card.name}**, which no training here made."
        return open_run(params, fingerprint, f"external-{fingerprint[:8]}-{card.name}", tags, {}, note=note)
    return open_run(params, fingerprint, f"scored-{fingerprint[:8]}", {}, {})


def counted(what: str, found: int, expected: int | None) -> dict[str, int]:
    """How many of `what` were scored, and if the set is partial, `expected_<what>`, how many its publisher counts."""
    return {what: found} | ({} if expected in (None, found) else {f"expected_{what}": expected})


def rounded(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy with floats at two decimals and keys in order, at every depth."""
    return {
        key: rounded(value) if isinstance(value, Mapping) else round(value, 2) if isinstance(value, float) else value
        for key, value in sorted(scores.items())
    }
