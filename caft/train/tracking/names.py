"""Names of runs, their parents, parameters, curves and scores in MLflow; docs/tracking.md has the table."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from caft.params import Params, arithmetic
from caft.params.problems import show

# MLflow's pages show metrics in sections by what stands before a slash.
_SPEED = ("images_per_s", "data_wait_share", "tflops", "mfu", "padded_token_share", "peak_memory_mib")
_TEMPERATURE = ("part_scale", "part_bias", "whole_scale", "whole_bias")
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
    """Returns the metric of a column of plots/train.csv: `train/loss`, `validation/t2i_r1`, `speed/images_per_s`."""
    if column.startswith("validation_"):
        return f"validation/{column.removeprefix('validation_')}"
    section = "speed" if column in _SPEED else "temperature" if column in _TEMPERATURE else "train"
    return f"{section}/{column}"


def score_names(prefix: str, scores: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yields the numbers of nested dicts as `prefix/outer/inner`: `retrieval/random/whole/t2i_r1`."""
    for key, value in scores.items():
        if isinstance(value, Mapping):
            yield from score_names(f"{prefix}/{key}", value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}/{key}", float(value)


def _quotable(name: str) -> str:
    """A name that can be quoted in a search."""
    return name.replace("'", "")
