"""Training steps of the product's own trainer, for the GPU benchmark: how fast, how much memory, which waits."""

import statistics
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.step import texts_like_recaptions
from caft.data.training.batch import Batch
from caft.network.caft import CAFT
from caft.network.text.encoder import can_pack, encoded_lengths
from caft.params.models import ModelParams
from caft.params.recipes import RecipeParams
from caft.train.ahead import placed
from caft.train.compiled import fast_labels
from caft.train.cost import step_flops
from caft.train.distributed import World
from caft.train.speed import peak_rate
from caft.train.task import TrainingTask
from caft.train.trainer import Trainer

_BATCHES = 4


@dataclass
class Setting:
    """A step to run.

    Attributes:
        model: Sizes.
        recipe: With the batch of one rank.
        device: Where.
        compiled: Whether the step is.
    """

    model: ModelParams
    recipe: RecipeParams
    device: torch.device
    compiled: bool


class Steps:
    """A trainer on random pictures under texts as long as those of the recaptioned corpora.

    Args:
        setting: What to run.
        batches: In place of random ones, without end.
    """

    def __init__(self, setting: Setting, batches: Iterator[Batch] | None = None) -> None:
        torch.manual_seed(0)
        recipe, device = setting.recipe, setting.device
        self.setting = setting
        model = CAFT(setting.model, recipe.chunks, recipe.scale_start, recipe.bias_start)
        task = TrainingTask(model, recipe, 0).to(device)
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        (folder / "checkpoints").mkdir()
        world = World(0, 1, device)
        self.trainer = Trainer(task, recipe, world, folder, "benchmark", 10**6, 0, compiled=setting.compiled)
        task.train()
        self.labels: Callable[[Batch], Tensor] = lambda batch: model.superpixel_labels(batch.images)
        if setting.compiled and model.superpixels is not None:
            fast = fast_labels(model, self.trainer.half)
            self.labels = lambda batch: fast(batch.images)
        pack = task.pack if self.trainer.half is not None and can_pack() else None
        self.waited = 0.0
        self._batches = placed(batches or self._random(), device, pack)

    def _random(self) -> Iterator[Batch]:
        setting = self.setting
        images = setting.recipe.batch
        made = []
        for number in range(_BATCHES):
            generator = torch.Generator().manual_seed(number)
            size = (images, 3, setting.model.image_size, setting.model.image_size)
            pixels = torch.randint(256, size, dtype=torch.uint8, generator=generator)
            tokens = texts_like_recaptions(images, setting.recipe.sub_captions, setting.model.text.context, number)
            batch = Batch(pixels, tokens, torch.arange(images))
            made.append(batch.pin_memory() if setting.device.type == "cuda" else batch)
        while True:
            yield from made

    def one(self) -> dict[str, Tensor]:
        """Takes a step; gives its loss terms."""
        before = time.perf_counter()
        batch = next(self._batches)
        self.waited += time.perf_counter() - before
        terms, _, _ = self.trainer._one_step(batch, self.labels)
        self.trainer.step += 1
        self.tokens = batch.tokens
        return terms

    def flops(self) -> float:
        """Operations of the last step, by the formulas of the product."""
        lengths = encoded_lengths(self.tokens.flatten(0, 1)).tolist()
        return float(step_flops(self.setting.model, self.setting.recipe, len(self.tokens), 1, lengths))

    def close(self) -> None:
        """Lets go of the run's folder."""
        self._folder.cleanup()


def timed(steps: Steps, warm: int, count: int, waiting: bool = False) -> dict[str, Any]:
    """Images a second and what goes with it.

    Args:
        steps: Of which some are taken.
        warm: Steps before, which are not counted.
        count: Steps that are counted.
        waiting: Whether each step is waited for before the next begins, as a program does that reads a number of it.
    """
    device = steps.setting.device
    _done(device)
    started = time.perf_counter()
    for _ in range(warm):
        steps.one()
    _done(device)
    warmed = time.perf_counter() - started
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds, program, flops = [], [], 0.0
    whole, steps.waited = time.perf_counter(), 0.0
    for _ in range(count):
        start = time.perf_counter()
        steps.one()
        program.append(time.perf_counter() - start)
        if waiting:
            _done(device)
        seconds.append(time.perf_counter() - start)
        flops += steps.flops()
    _done(device)
    each = (time.perf_counter() - whole) / count
    peak = peak_rate(device)
    return {
        "images": steps.setting.recipe.batch,
        "ms": 1e3 * each,
        "images_per_s": steps.setting.recipe.batch / each,
        "program_ms": 1e3 * statistics.median(program),
        "tflop": flops / count / 1e12,
        "mfu": flops / count / each / peak if peak is not None else None,
        "peak_tflops": peak / 1e12 if peak is not None else None,
        "peak_gib": torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None,
        "warm_s": warmed,
        "data_wait_share": steps.waited / count / each,
    }


def waits(steps: Steps) -> dict[str, Any]:
    """Operations of one step that wait for the GPU, by the line that asks."""
    if steps.setting.device.type != "cuda":
        return {"count": None}
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            steps.one()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    asked = [w for w in found if "synchroniz" in str(w.message)]
    lines = Counter(f"{Path(w.filename).name}:{w.lineno}" for w in asked)
    return {"count": len(asked), "lines": dict(lines.most_common(12))}


def kernels(steps: Steps, most: int = 40) -> dict[str, Any]:
    """Kernels of one step by torch's profiler: how many, how long, and the longest."""
    if steps.setting.device.type != "cuda":
        return {}
    with torch.profiler.profile() as profiler:
        steps.one()
        _done(steps.setting.device)
    on_device = torch._C._autograd.DeviceType.CUDA
    rows = [
        (event.key[:100], event.self_device_time_total / 1e3, event.count)
        for event in profiler.key_averages()
        if event.device_type == on_device and event.self_device_time_total > 0
    ]
    rows.sort(key=lambda row: -row[1])
    return {"ms": sum(row[1] for row in rows), "launches": sum(row[2] for row in rows), "longest": rows[:most]}


def _done(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
