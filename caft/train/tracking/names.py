"""Names of runs, their parents, parameters, curves and scores in MLflow; docs/tracking.md has the table."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from caft.params import Params, arithmetic
from caft.params.problems import show

# MLflow's pages show metrics in sections by what stands before a slash.
_SPEED = (
    *("images_per_s", "data_wait_share", "tflops", "mfu", "padded_token_share", "peak_memory_mib"),
    *("step_seconds", "joules", "recompilations"),
)
_TEMPERATURE = ("part_scale", "part_bias", "whole_scale", "whole_bias")
# Of an evaluation set, or of a random answer on it.
_CONSTANTS = {
    *(
        "pairs",
        "expressions",
        "rows",
        "images",
        "classes",
        "questions",
        "chunks_cut",
        "tokens_seen",
        "miou_all_foreground",
    ),
    *("leaked_images",),
}
_TABLES = (
    *("match", "by_box_mode", "miou_by_level", "by_kind", "tied_rows"),
    *("by_category", "chance", "tied", "same_captions", "same_name", "iou", "miou_interval"),
)
# What people compare first, and of how many sets, so that all fit beside each other.
_HEADLINES = {r"retrieval/[^/]+/whole/t2i_r1": 2, r"grounding/[^/]+/miou": 1, r"regions(/[^/]+)?/hard": 1}
# The other settings do not affect training; they are in the run's settings.json only.
_TRAINED_WITH = ("train", "data", "model", "superpixels")


def run_name(params: Params, overlays: Sequence[Path | str], seed: str) -> str:
    """Returns the name of a run or, with `seeds` for the seed, of its seed set, like `b48-s0-tiny-smoke-scenes`.

    What differs from run to run comes first, since MLflow's tables cut names after some ten letters: overlays, batch,
    seed, other overrides.
    """
    others = params.train.model_dump(exclude={"batch", "validate_every", "checkpoint_every"}, exclude_none=True)
    parts = [*(Path(overlay).stem for overlay in overlays), f"b{params.selected_recipe.batch}", seed]
    if params.data.fraction < 1:
        parts.append(f"fraction={show(params.data.fraction)}")
    parts += [f"{key}={show(value)}" for key, value in others.items()]
    return _quotable("-".join([*parts, params.model, params.recipe, "+".join(params.corpora)]))


def group_name(params: Params, overlays: Sequence[Path | str] = ()) -> str | None:
    """Returns the name of the sweep or ablation that a run is part of, if any.

    Runs with overlays of one folder belong together; DVC experiments do if they started from one commit, as in the
    table of `dvc exp show`.
    """
    if overlays and (folder := Path(overlays[-1]).parent.name):
        return _quotable(f"{folder} {params.model}-{params.recipe}")
    if commit := os.environ.get("DVC_EXP_BASELINE_REV"):
        return f"{commit[:7]} experiments"
    return None


def description(params: Params) -> str:
    """Returns what a run's page says of it first, in Markdown."""
    recipe, launcher = params.selected_recipe, params.selected_launcher
    ranks = f"{launcher.world_size} rank{'s' if launcher.world_size > 1 else ''}"
    return (
        f"Model **{params.model}** trained by recipe **{params.recipe}** on **{' + '.join(params.corpora)}**: batch "
        f"{recipe.batch}, seed {params.seed}, {ranks} of launcher `{params.launch}`. Under *Artifacts*: every score "
        "(`scores/`), every setting with its origin (`settings.json`) and the report (`index.html`), once their stages "
        "have run."
    )


def parameters(params: Params) -> dict[str, str]:
    """Returns the settings that a training depends on, by their keys in params.yaml, without those that are null."""
    table: dict[str, Any] = {
        "corpora": "+".join(params.corpora),
        "model": params.model,
        "recipe": params.recipe,
        "seed": params.seed,
        "launch": params.launch,
        "ranks": params.selected_launcher.world_size,
        "arithmetic": arithmetic.current(),
    }
    for key, (value, _) in params.effective().items():
        if key.split(".")[0] in _TRAINED_WITH and "." in key and value is not None:
            table[key] = value
    # MLflow's page writes a list in brackets over several lines.
    return {key: show(value).strip("[]") for key, value in table.items()}


def curve_name(column: str) -> str:
    """Returns the metric of a column of plots/train.csv: `curves/train/loss`, `curves/validation/t2i_r1`.

    The sections of a run's page are in the order of the alphabet, so that curves stand before scores of one value.
    """
    if column.startswith("validation_"):
        return f"curves/validation/{column.removeprefix('validation_')}"
    section = "speed" if column in _SPEED else "temperature" if column in _TEMPERATURE else "train"
    return f"curves/{section}/{column}"


def score_names(prefix: str, scores: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yields the scores of nested dicts as `prefix/outer/inner`: `retrieval/random/whole/t2i_r1`.

    Without what `constants` has, and without tables, which the run has as a file: scores by kind, level or box.
    """
    for key, value in scores.items():
        if isinstance(value, Mapping):
            if key not in _TABLES:
                yield from score_names(f"{prefix}/{key}", value)
        elif _is_number(value) and not _is_constant(key) and not key.endswith("_optimistic") and key not in _TABLES:
            yield f"{prefix}/{key}", float(value)


def constants(prefix: str, scores: Mapping[str, Any]) -> dict[str, str]:
    """Returns what an evaluation set is like, not how well a model does on it, as a tag by the set's name.

    Such as `retrieval/random`: `pairs 256, tokens_seen 100.0`.
    """
    own = {key: value for key, value in scores.items() if _is_number(value) and _is_constant(key)}
    found = {f"caft.set.{prefix}": ", ".join(f"{key} {value}" for key, value in own.items())} if own else {}
    for key, value in scores.items():
        if isinstance(value, Mapping) and key not in _TABLES:
            found |= constants(f"{prefix}/{key}", value)
    return found


def headlines(names: Iterable[str]) -> list[str]:
    """Returns the scores that people compare first, among names of metrics."""
    known = list(names)
    found = {form: [name for name in known if re.fullmatch(form, name)] for form in _HEADLINES}
    return [name for form, most in _HEADLINES.items() for name in found[form][:most]]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_constant(key: str) -> bool:
    if key in _TABLES:
        return False
    return key in _CONSTANTS or key.startswith("expected_") or key.endswith(("_chance", "_rows"))


def _quotable(name: str) -> str:
    """A name that can be quoted in a search."""
    return name.replace("'", "")
