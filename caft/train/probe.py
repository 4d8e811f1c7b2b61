"""A short training of a run's own step on random pictures, by the ranks that would train: what the machine can do."""

import logging
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caft import storage
from caft.captions.tokenizer import pad
from caft.data.training.batch import Batch, Sampling, sample_sub_captions
from caft.data.training.reader import TrainingIndex
from caft.network import gpu
from caft.network.caft import CAFT
from caft.params import Params, arithmetic
from caft.params.recipes import RecipeParams
from caft.train.compiled import fast_labels
from caft.train.distributed import World, of_main, seed_step, start, stop
from caft.train.follow import Tail
from caft.train.job import Notice
from caft.train.speed import STOPS
from caft.train.spent import spent
from caft.train.task import TrainingTask
from caft.train.trainer import Trainer

RESULT = "probe.json"
_WARM_UP = 3  # steps that tell how many fit into the time
_WINDOWS = 20
_BATCHES = 4
_WORDS = 49406  # of CLIP's vocabulary, without start and end
_TOKENS = 13, 77  # of a text without an index: 45 on average, as of the recaptioned corpora


@dataclass(frozen=True)
class Probe:
    """A picklable callable that trains for some seconds on random data, and leaves `probe.json` in its folder.

    Pictures are random, texts are drawn from the index as in training; without one they have 13 to 77 tokens. Nothing is
    loaded, so no waiting for data is measured.

    Attributes:
        params: Of the run.
        seconds: How long, start and compilation not counted; at least two steps are done.
        folder: An empty one, shared by all ranks.
        index: Of the run, if there is one.
    """

    params: Params
    seconds: float
    folder: Path
    index: Path | None

    def __call__(self, notice: Notice | None = None) -> None:
        """Runs one rank."""
        logging.basicConfig(level=logging.INFO, format="%(asctime)s rank %(process)d %(name)s: %(message)s")
        launcher = self.params.selected_launcher
        arithmetic.expect(launcher.arithmetic)
        if arithmetic.current() == "native":
            torch.set_num_threads(launcher.cpus_per_task)
        world = start()
        try:
            self._train(world)
        finally:
            stop()

    def _train(self, world: World) -> None:
        launcher, recipe = self.params.selected_launcher, self.params.selected_recipe
        recipe = recipe.model_copy(update={"validate_every": 10**9, "checkpoint_every": 10**9})
        seed_step(self.params.seed, -1, 0)
        model = CAFT(self.params.selected_model, recipe.chunks, recipe.scale_start, recipe.bias_start)
        model.sub_caption.tokens_at_once = launcher.text_tokens_at_once
        portions = launcher.micro_batch, launcher.recompute_stages
        task = TrainingTask(model, recipe, self.params.seed, *portions).to(world.device)
        trainer = Trainer(
            task, recipe, world, self.folder, "probe", _WARM_UP, self.params.seed, compiled=launcher.compile
        )
        batches = list(self._batches(recipe, world))
        labels = _labels(model, recipe, trainer.half if launcher.compile else None)

        def endless() -> Iterator[Batch]:
            while True:
                yield from batches

        trainer.train(endless(), labels, dict)
        rate = spent(self.folder)["images_per_s"] if world.is_main else 0.0
        more = of_main(max(3, 1 + round(self.seconds * rate / recipe.batch)))
        if world.is_main:
            (self.folder / STOPS).unlink()
        trainer.steps, trainer.log_every = _WARM_UP + more, max(1, more // _WINDOWS)
        trainer.train(endless(), labels, dict)
        if world.is_main:
            storage.write_json(self.folder / RESULT, _found(self.folder))

    def _batches(self, recipe: RecipeParams, world: World) -> Iterator[Batch]:
        sizes, images = self.params.selected_model, recipe.batch // world.size
        index = TrainingIndex(self.index, self.folder) if self.index is not None else None
        for number in range(_BATCHES):
            rng = np.random.default_rng([self.params.seed, world.rank, number])
            size = (images, 3, sizes.image_size, sizes.image_size)
            pixels = torch.from_numpy(rng.integers(256, size=size, dtype=np.uint8))
            tokens = torch.stack([_texts(index, recipe, rng, sizes.text.context) for _ in range(images)])
            batch = Batch(pixels, tokens, torch.arange(number * images, (number + 1) * images))
            yield batch.pin_memory() if world.device.type == "cuda" else batch


def _texts(index: TrainingIndex | None, recipe: RecipeParams, rng: np.random.Generator, context: int) -> Tensor:
    """Ids of the sub-captions of an image, (K, L)."""
    if index is None:
        lengths = np.minimum(rng.integers(_TOKENS[0], _TOKENS[1] + 1, recipe.sub_captions), context)
        return pad([rng.integers(_WORDS, size=length - 2).tolist() for length in lengths], context)
    rule = Sampling(recipe.sub_captions, recipe.chunks, recipe.max_sentences, recipe.random_rule, recipe.captions)
    row = int(rng.integers(len(index)))
    pairs = sample_sub_captions(index.num_sentences(row), rng, rule)
    return pad([index.sub_caption_ids(row, sentences) for sentences in pairs], context)


def _labels(model: CAFT, recipe: RecipeParams, half: torch.dtype | None) -> Callable[[Batch], Tensor]:
    """Superpixels by a network that was not trained: of pictures that are not cropped once, else in each step."""
    make: Callable[[Tensor], Tensor] = model.superpixel_labels
    if half is not None and model.superpixels is not None:
        make = fast_labels(model, half)
    kept: dict[int, Tensor] = {}

    def labels(batch: Batch) -> Tensor:
        number = int(batch.rows[0])
        if recipe.crop_scale is not None or number not in kept:
            kept[number] = make(gpu.sent(batch.images, model.device))
        return kept[number]

    return labels


def _found(folder: Path) -> dict[str, Any]:
    """The figures of the probe, with the speeds between which nine of ten windows lie."""
    rates = [row["images_per_s"] for row in Tail(folder / "metrics.jsonl").new() if "images_per_s" in row]
    found = spent(folder)
    if len(rates) > 1:
        ends = statistics.quantiles(rates, n=20, method="inclusive")
        found |= {"slowest": round(ends[0], 1), "fastest": round(ends[-1], 1)}
    return {**found, "windows": len(rates)}
