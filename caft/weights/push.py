"""Sends a model to a model hub by `huggingface_hub`: weights, card, and the card's page with what the hub reads at its head."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from caft.errors import CaftError
from caft.model.card_page import render, saw_scenes_alone
from caft.model.model import Model
from caft.weights.files import save_model
from caft.weights.hub import (
    PREFIX,
    WEIGHTS,
    HubName,
    endpoint,
    hub_client,
    is_hub_name,
    is_of_client,
    kinds_of,
    parse,
    reason_of,
    status_of,
)

PAGE = "README.md"
_TAGS = ["caft", "clip", "image-text-retrieval", "long-captions", "visual-grounding", "arxiv:2602.02977"]
_RECALLS = {"i2t_r1": "image to text R@1", "t2i_r1": "text to image R@1"}
_MASKS = {"miou": ("mean_iou", "mIoU"), "pointing": ("accuracy", "pointing")}
_LEVELS = ("hard", "medium", "easy", "trivial")
_LICENCE = re.compile(r"[a-z0-9.+-]+")


def destination(name: str) -> HubName:
    """Where a model is to go, from `OWNER/NAME`.

    Raises:
        CaftError: It is no name of a repository, or names a file or revision.
    """
    wanted = parse(name if is_hub_name(name) else PREFIX + name)
    if wanted != HubName(wanted.repository):
        raise CaftError(f"{name}: names a file or a revision; a model goes to OWNER/NAME, here {wanted.repository}")
    return wanted


def licence_of(model: Model, given: str | None) -> str:
    """The licence that the page states, as the hub abbreviates it.

    Raises:
        CaftError: None is given, and the weights saw more than this project's own rendered scenes, or started from given ones;
            or it is no such word.
    """
    if given is None and saw_scenes_alone(model.card):
        return "apache-2.0"  # nothing of others is in it
    if given is None:
        raise CaftError(
            "the licence of these weights is not recorded; give it with --license, as the hub abbreviates it (mit, apache-2.0, "
            "cc-by-nc-4.0, other, ...). Captions and pictures that they were trained on may have terms (data/README.md)"
        )
    if not _LICENCE.fullmatch(given):
        raise CaftError(f"--license {given!r}: expected the hub's abbreviation, such as mit, apache-2.0 or other")
    return given


def pack(model: Model, to: HubName, licence: str, metrics: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes the files that are sent: page, weights and card.

    Of a file that given weights come from, the card keeps the name alone, since a path says where its owner keeps files.

    Args:
        model: The model.
        to: Where it will be.
        licence: As the hub abbreviates it.
        metrics: Content of files in `metrics/` by their names, such as "retrieval".
        folder: Where to write.

    Raises:
        CheckpointError: The client is not installed.
    """
    source = model.card.source
    if source is not None and not is_hub_name(source):
        model = replace(model, card=model.card.model_copy(update={"source": re.split(r"[\\/]", source)[-1]}))
    weights, page = folder / WEIGHTS, folder / PAGE
    save_model(model.network, weights, model.card)
    client = hub_client(str(to), "send nothing")
    head = client.ModelCardData(
        language="en",
        license=licence,
        library_name="caft",
        pipeline_tag="zero-shot-image-classification",
        tags=_TAGS,
        metrics=sorted({found["metric_type"] for found in _results(metrics)}) or None,
        model_name=to.repository.rpartition("/")[2],
        eval_results=[client.EvalResult(**found) for found in _results(metrics)] or None,
    )
    use = f"## Use\n\n```python\nimport caft\n\nmodel = caft.load({str(to)!r})\n```\n"
    page.write_text(f"---\n{head.to_yaml()}\n---\n\n{render(model.card, metrics)}\n{use}", encoding="utf-8")
    return [page, weights, weights.with_suffix(".json")]


def push(files: list[Path], to: HubName, private: bool | None) -> str:
    """Sends files as one commit, to a repository that is made if it is not there.

    Args:
        files: All that is sent; each goes by its name alone.
        to: The repository.
        private: Of a new repository; None is the hub's own default (public, or as the organization has set).

    Returns:
        The commit's address.

    Raises:
        CaftError: It cannot be sent; the repository is then as it was, or new and empty.
    """
    client = hub_client(str(to), "send nothing")
    api = client.HfApi(library_name="caft")
    operations = [client.CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file) for file in files]
    try:
        api.create_repo(to.repository, private=private, exist_ok=True)
        sent = api.create_commit(to.repository, operations, commit_message="Model of caft")
        there = set(api.list_repo_files(to.repository, revision=sent.oid))
    except Exception as error:
        if not is_of_client(error):
            raise
        raise CaftError(f"{to}: {_problem(to, error)}") from error
    if lost := [file.name for file in files if file.name not in there]:
        raise CaftError(  # the client leaves such files out without an error
            f"{to}: {', '.join(lost)} did not get there: a .gitignore in the repository excludes them; remove it there, and "
            "push again"
        )
    return str(sent.commit_url)


def _problem(to: HubName, error: Exception) -> str:
    kinds, status = kinds_of(error), status_of(error)
    if status in (401, 403) or "LocalTokenNotFoundError" in kinds:
        return (
            f"the hub at {endpoint()} does not let you write there ({status or 'no token'}); log in by `hf auth login`, or set "
            f"HF_TOKEN to a token that may write to {to.repository}"
        )
    if "OfflineModeIsEnabled" in kinds:
        return "HF_HUB_OFFLINE forbids to send it; unset that"
    if "HFValidationError" in kinds:
        return "is no name that a repository can have; expected OWNER/NAME"
    if status in (402, 413, 429, 507):
        return f"the hub answered {status} (a limit is reached: {reason_of(error)}); wait, or make room there, and push again"
    answer = f"the hub answered {status}: {reason_of(error)}" if status else reason_of(error)
    return (
        f"cannot be sent to {endpoint()} ({answer}); check the network, and push again: a commit is whole or not there"
    )


def _results(metrics: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Scores as the hub's model-index has them: percent, each with its task and set."""
    for name, scores in _sets(metrics.get("retrieval"), "pairs"):
        for kind, found in scores.items():
            for key, words in _RECALLS.items():
                if isinstance(found, Mapping) and found.get(key) is not None:
                    yield _result("image-text-retrieval", name, "recall", f"{words}, {kind}", found[key])
    for name, scores in _sets(metrics.get("grounding"), "expressions"):
        for key, (kind, words) in _MASKS.items():
            if scores.get(key) is not None:
                yield _result("image-segmentation", name, kind, words, scores[key])
    regions = metrics.get("regions") or {}
    for level in _LEVELS:
        if regions.get(level) is not None:
            yield _result("zero-shot-image-classification", f"regions-{level}", "accuracy", "accuracy", regions[level])


def _sets(metrics: Mapping[str, Any] | None, count: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Sets that were run: they have a count."""
    for name, scores in (metrics or {}).items():
        if isinstance(scores, Mapping) and count in scores:
            yield name, scores


def _result(task: str, dataset: str, kind: str, name: str, value: float) -> dict[str, Any]:
    return {
        "task_type": task,
        "dataset_type": dataset,
        "dataset_name": dataset,
        "metric_type": kind,
        "metric_name": f"{name} (%)",
        "metric_value": round(value, 2),
    }
