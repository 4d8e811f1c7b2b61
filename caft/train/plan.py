"""What a run will need, before anything is submitted: images, steps, hours and memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caft.data.training.index import read_summary
from caft.errors import DataError, ParamsError
from caft.params import Params
from caft.params.corpora import ScenesCorpus
from caft.train.cost import memory
from caft.weights.start import path_of, start

INDEX = Path("data/index")
_GIB = 2**30
# Tokens of a sub-caption, on average, at the least: one to three sentences of a recaption have more.
_SHORT_TEXT = 25


@dataclass(frozen=True)
class Budget:
    """What a run trains on.

    Attributes:
        images: Of the corpora.
        source: Where that number is from.
        steps: Of the optimizer.
        samples: Images that the steps take.
    """

    images: int
    source: str
    steps: int
    samples: int


def budget(params: Params) -> Budget:
    """Images, steps and samples of a run.

    Raises:
        ParamsError: The budget holds no batch.
    """
    recipe = params.selected_recipe
    images, source = _images(params)
    training = images - min(recipe.validation_images, images // 4)
    steps = recipe.steps(max(1, round(params.data.fraction * training)))
    return Budget(images, source, steps, steps * recipe.batch)


def has_index(params: Params) -> bool:
    """Whether there is an index of the selected corpora."""
    return _images(params)[1] == str(INDEX)


def plan(params: Params) -> list[str]:
    """The plan of a run, as lines of a key and its value.

    Raises:
        ParamsError: The budget holds no batch, or a rank's share of it does not fit into its card.
        CheckpointError: The given weights are no start for the model.
    """
    recipe, launcher = params.selected_recipe, params.selected_launcher
    found, batch = budget(params), recipe.batch // launcher.world_size
    images, steps, samples = found.images, found.steps, found.samples
    table: dict[str, str] = {
        "run": f"{params.model} by {params.recipe} on {' + '.join(params.corpora)}",
        "launcher": f"{params.launch} ({launcher.executor}): {launcher.nodes} nodes x {launcher.tasks_per_node} ranks, "
        f"{launcher.gpus_per_node} GPUs a node",
        "images": f"{images:,} ({found.source})",
        "steps": f"{steps:,} of {recipe.batch} images, {batch} a rank",
        "samples": f"{samples:,}, {samples / images:.1f} times all images",
        "hours": "not stated: the launcher has no images_per_s",
    }
    if launcher.images_per_s is not None:
        hours = samples / launcher.images_per_s / 3600
        gpus = launcher.nodes * launcher.gpus_per_node
        table["hours"] = f"{hours:.1f} at {launcher.images_per_s:,.0f} images/s, {hours * gpus:.1f} GPU hours"
        if launcher.slurm is not None:
            passed = int(hours * 60 // launcher.time_minutes)
            table["requeued"] = f"{passed} times by the limit of {launcher.time_minutes} minutes"
            if passed > launcher.slurm.time_limits:
                key = f"launchers.{params.launch}.slurm.time_limits"
                raise ParamsError(
                    f"{key} = {launcher.slurm.time_limits}: must be at least {passed} for {hours:.0f} hours"
                )
    if (given := path_of(params)) is not None:
        table["init"] = f"{given}; {start(params, given).summary}"
    table["memory"] = _memory(params, batch)
    width = max(map(len, table))
    return [f"{key:<{width}}  {value}" for key, value in table.items()]


def _images(params: Params) -> tuple[int, str]:
    """Images to train on, and where that number is from: the index if it is of these corpora, else what is published."""
    try:
        corpora: list[dict[str, Any]] = read_summary(INDEX)["corpora"]
    except DataError:
        corpora = []
    if [corpus["name"] for corpus in corpora] == list(params.corpora):
        return sum(corpus["count"] for corpus in corpora), str(INDEX)
    entries = [params.corpus[name] for name in params.corpora]
    counts = [entry.images if isinstance(entry, ScenesCorpus) else entry.expected_images for entry in entries]
    return sum(counts), "published; there is no index of them yet"


def _memory(params: Params, batch: int) -> str:
    model, recipe, launcher = params.selected_model, params.selected_recipe, params.selected_launcher
    number = 4 if recipe.precision == "float32" or not launcher.gpus_per_node else 2
    at_once = launcher.text_tokens_at_once, launcher.micro_batch, launcher.recompute_stages
    least, most = (
        memory(model, recipe, batch, launcher.world_size, number, length, *at_once)
        for length in (min(_SHORT_TEXT, model.text.context), model.text.context)
    )
    limit = launcher.gpu_memory_gb
    held = "weights and optimizer" if recipe.weights_ema is None else "weights, their average and optimizer"
    words = (
        f"{least.total / _GIB:.1f} to {most.total / _GIB:.1f} GiB a rank, as long as texts are: "
        f"{least.state / _GIB:.1f} {held}, {least.images / _GIB:.1f} images, "
        f"{least.texts / _GIB:.1f} to {most.texts / _GIB:.1f} texts"
    )
    if limit is not None and least.total > limit * 1e9:
        raise ParamsError(
            f"train.batch = {recipe.batch}: does not fit into launchers.{params.launch}.gpu_memory_gb ({limit}): "
            f"{batch} images take {words}; use more ranks, a smaller batch, or the launcher's micro_batch or recompute_stages"
        )
    return words if limit is None else f"{words}; of {limit} GB"
