"""The parts of the GPU benchmark that run training steps: speed, loss curve, loading, and who spends the time."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.components import REST, Clock, watching
from benchmarks.gains import without
from benchmarks.gpu_data import packed_loader
from benchmarks.gpu_steps import Setting, Steps, kernels, timed, waits
from benchmarks.work import probe, seconds, step_work
from caft.data.training.batch import Batch
from caft.network.text.encoder import encoded_lengths
from caft.params import Params, load_params

FLAIR = "pipelines/ablation/flair.yaml"
_CURVE_STEPS = 50


def setting(params: Params, model: str, recipe: str, batch: int, device: torch.device, compiled: bool) -> Setting:
    """A step by names of the settings."""
    found = params.recipes[recipe].model_copy(update={"batch": batch})
    return Setting(params.models[model], found, device, compiled)


def speed(given: Setting, quick: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Eager, compiled, and compiled with a wait after each step; then FLAIR's step of the same code, eager."""
    warm, count = (1, 2) if quick else (6, 20)
    for compiled in (True, False):
        steps = Steps(replace(given, compiled=compiled))
        name = "compiled" if compiled else "eager"
        compilations = _compilations()
        found = timed(steps, warm, count)
        after_warm_up = _compilations()
        if compiled:
            yield f"{name}, waiting", timed(steps, 1, count, waiting=True)
        yield name, {**found, "waits": waits(steps), "compilations": [after_warm_up - compilations]}
        steps.one()
        breaks = sum(torch._dynamo.utils.counters["graph_break"].values())
        found = {"compilations_later": _compilations() - after_warm_up, "graph_breaks": breaks, **kernels(steps)}
        yield f"{name}, kernels", found
        steps.close()
        del steps
        _free(given.device)


def _compilations() -> int:
    """Graphs that have been compiled in this process."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def flair(params: Params, model: str, recipe: str, batch: int, device: torch.device, quick: bool) -> dict[str, Any]:
    """FLAIR's step of the same code: a flat tower, texts padded to 77, negatives' norm and query on each selection."""
    for images in (batch, batch // 2, batch // 4):
        try:
            with without(("text", "mask"), flair=True), mock.patch("benchmarks.gpu_steps.can_pack", lambda: False):
                steps = Steps(setting(params, model, recipe, max(2, images), device, False))
                return timed(steps, *((1, 2) if quick else (3, 8)))
        except torch.OutOfMemoryError:
            _free(device)
    return {"out_of_memory": True}


def curve(given: Setting, quick: bool) -> dict[str, Any]:
    """Losses of the same steps in bf16 compiled and in float32 eager; the poolings drop nothing, whose draws differ."""
    count = 3 if quick else _CURVE_STEPS
    model = given.model.model_copy(update={"pool_dropout": 0.0})
    losses = {}
    for name, precision, compiled in (("bf16 compiled", "bf16", True), ("float32 eager", "float32", False)):
        recipe = given.recipe.model_copy(update={"precision": precision})
        steps = Steps(replace(given, model=model, recipe=recipe, compiled=compiled))
        found = [steps.one()["loss"] for _ in range(count)]
        losses[name] = [round(float(loss), 5) for loss in found]
        steps.close()
        del steps
        _free(given.device)
    half, full = (np.array(values) for values in losses.values())
    return {"largest_difference": float(np.abs(half / full - 1).max()), **losses}


def loading(given: Setting, quick: bool, workers: int) -> dict[str, Any]:
    """The step fed by the product's reader over a packed tar of JPEGs: waiting for data, and images a second."""
    count = 2 if quick else 12
    with packed_loader(given, workers, 4 + count) as loader:
        steps = Steps(given, iter(loader))
        found = timed(steps, 3, count)
        steps.close()
    return {"workers": workers, **found}


def profile(given: Setting, quick: bool) -> dict[str, Any]:
    """Share of each component in a compiled step, beside the one predicted by operations and the rates of probes."""
    steps = Steps(given)
    for _ in range(1 if quick else 5):
        steps.one()
    weights = {parameter.untyped_storage().data_ptr() for parameter in steps.trainer.task.parameters()}
    with _watched(steps, weights) as clock_of:
        best: Clock | None = None
        for _ in range(1 if quick else 4):
            clock = clock_of()
            if best is None or _total(clock) < _total(best):
                best = clock
    assert best is not None
    forward, backward, total = best.forward, best.backward, _total(best)
    with torch.autocast(given.device.type, torch.bfloat16):
        rates = probe(given.device)
    lengths = encoded_lengths(steps.tokens.flatten(0, 1))
    work = step_work(given.model, given.recipe, given.recipe.batch, lengths, True, 2)
    predicted = {name: sum(seconds(part, rates)) for name, part in work.items()}
    rows = {
        name: {
            "ms": 1e3 * (forward.get(name, 0.0) + backward.get(name, 0.0)),
            "share": (forward.get(name, 0.0) + backward.get(name, 0.0)) / total,
            "predicted_share": predicted.get(name, 0.0) / sum(predicted.values()),
            "tflop": (work[name].forward + work[name].backward) / 1e12 if name in work else 0.0,
        }
        for name in {*forward, *backward, *work}
    }
    steps.close()
    return {"ms": 1e3 * total, "components": dict(sorted(rows.items(), key=lambda item: -item[1]["share"]))}


class _watched:
    """Inside, a call takes one step and gives its clock."""

    def __init__(self, steps: Steps, weights: set[int]) -> None:
        self.steps, self.weights = steps, weights

    def __enter__(self) -> Any:
        return self._one

    def __exit__(self, *error: object) -> None:
        pass

    def _one(self) -> Clock:
        steps, trainer = self.steps, self.steps.trainer
        clock = Clock(steps.setting.device, self.weights)
        scale, unscale, labels = trainer.scaler.scale, trainer.scaler.unscale_, steps.labels

        def scaled(loss: torch.Tensor) -> torch.Tensor:
            clock.switch(REST)
            clock.is_backward = True
            return scale(loss)

        def unscaled(optimizer: torch.optim.Optimizer) -> None:
            clock.switch("optimizer")
            clock.is_backward = False
            unscale(optimizer)

        def labelled(batch: Batch) -> torch.Tensor:
            with clock.inside("superpixels"):
                return labels(batch)

        with (
            mock.patch.object(trainer.scaler, "scale", scaled),
            mock.patch.object(trainer.scaler, "unscale_", unscaled),
            mock.patch.object(steps, "labels", labelled),
            watching(clock, trainer.task),
        ):
            steps.one()
            clock.switch(REST)
        return clock


def _total(clock: Clock) -> float:
    return sum(clock.forward.values()) + sum(clock.backward.values())


def _free(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


def flair_params(params: str) -> Params:
    """The settings under the overlay of FLAIR's model."""
    return load_params(params, [FLAIR])
