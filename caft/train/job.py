"""The training job: what each rank runs, from the training index to the final weights."""

import bisect
import functools
import itertools
import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader

from caft.data.training.batch import BatchOrder, Blocks, Sampling, TrainingSet, collate
from caft.data.training.reader import TrainingIndex
from caft.data.training.subsets import nested, read_excluded, split_validation, without
from caft.errors import CheckpointError
from caft.locking import locked
from caft.model.card import ModelCard
from caft.network.caft import CAFT
from caft.params import Params, arithmetic
from caft.storage import disk_problem
from caft.train import seal
from caft.train.distributed import World, barrier, of_main, seed_step, start, stop
from caft.train.inputs import Inputs, changes, check, files_of
from caft.train.labels import batch_labels
from caft.train.stalled import each_in_time
from caft.train.task import TrainingTask
from caft.train.trainer import Trainer
from caft.train.validation import validate
from caft.weights.files import fill, read_weights, save_model

# How long the ranks of an earlier job of the run may take to end.
_PATIENCE_SECONDS = 60.0
# What a run that has ended leaves in its folder, each with a seal.
RESULTS = ("final.safetensors", "final.json", "metrics.jsonl")


class Notice(Protocol):
    """A scheduler's notice that the job must leave, looked at after each step; `slurm.rank.Notice` is one."""

    @property
    def given(self) -> bool:
        """Whether the job must leave."""

    def leave(self) -> None:
        """Called by the main rank when its state is saved; ends this process."""


@dataclass(frozen=True)
class TrainJob:
    """A picklable callable that trains from the newest checkpoint of its run, or from the start.

    `run_folder` is shared by all ranks, `excluded` has the positions in the index that are left out, `images_root` a folder
    of shards for each corpus; `superpixels` are SFCN's weights, and `card` is written beside the final ones. `inputs` are
    what the run was named by when it was submitted: the main rank looks at each start whether they are still there. `start`
    has the weights, by the model's names, that are given and not drawn; it has a seal.
    """

    params: Params
    fingerprint: str
    run_folder: Path
    index_folder: Path
    excluded: Path
    images_root: Path
    superpixels: Path | None
    card: ModelCard
    inputs: Inputs | None = None
    start: Path | None = None

    def __call__(self, notice: Notice | None = None) -> None:
        """Runs one rank; the others are found by torch's environment variables, see `caft.train.distributed.start`.

        Raises:
            CaftError: The data, the loss or the disk is at fault.
        """
        logging.basicConfig(level=logging.INFO, format="%(asctime)s rank %(process)d %(name)s: %(message)s")
        arithmetic.expect(self.params.selected_launcher.arithmetic)
        if arithmetic.current() == "native":
            torch.set_num_threads(self.params.selected_launcher.cpus_per_task)
        world = start()
        alone = locked(self.run_folder / "checkpoints", "training this run", _PATIENCE_SECONDS)
        try:
            with alone if world.is_main else nullcontext():
                barrier()  # no rank looks for a checkpoint while another job can still write one
                if self.inputs is not None:
                    files = files_of(self.index_folder, self.excluded, self.superpixels)
                    check(of_main(changes(self.inputs, files) if world.is_main else None))
                self._train(world, notice)
        except (OSError, RuntimeError) as error:
            if (problem := disk_problem(error)) is None:
                raise
            raise CheckpointError(f"{problem}; the last whole checkpoint is kept") from error
        finally:
            stop()

    def _train(self, world: World, notice: Notice | None) -> None:
        recipe, data, seed = self.params.selected_recipe, self.params.data, self.params.seed
        launcher = self.params.selected_launcher
        index = TrainingIndex(self.index_folder, self.images_root)
        training, validation = split_validation(index.row_ids, recipe.validation_images, index.repeats)
        training = without(nested(index.row_ids, training, data.fraction), read_excluded(self.excluded))
        steps = recipe.steps(len(training))
        seed_step(seed, -1, 0)  # the model starts alike on all ranks
        model = CAFT(self.params.selected_model, recipe.chunks, recipe.scale_start, recipe.bias_start)
        model.sub_caption.tokens_at_once = launcher.text_tokens_at_once
        if model.superpixels is not None:
            assert self.superpixels is not None
            fill(model.superpixels, read_weights(self.superpixels), self.superpixels)
        if self.start is not None:
            if (fault := seal.fault(self.start)) is not None:
                raise CheckpointError(f"{fault}; move it away, and `dvc repro` makes it again from init")
            model.load_state_dict(read_weights(self.start), strict=False)  # what it lacks stays as drawn
        task = TrainingTask(model, recipe, seed, launcher.micro_batch, launcher.recompute_stages).to(world.device)
        compiled, names = launcher.compile, image_names(index)
        trainer = Trainer(task, recipe, world, self.run_folder, self.fingerprint, steps, seed, names, compiled)
        sampling = Sampling(
            recipe.sub_captions, recipe.chunks, recipe.max_sentences, recipe.random_rule, recipe.captions
        )
        replaces = data.damaged == "replace"
        samples = TrainingSet(
            index, model.config.image_size, recipe.crop_scale, sampling, seed, training if replaces else None
        )
        blocks = Blocks(index.shards, data.shards_at_once) if data.shards_at_once is not None else None
        order = BatchOrder(training, recipe.batch, world.rank, world.size, seed, trainer.step, steps, blocks)
        loader: DataLoader[Any] = DataLoader(
            samples,
            batch_sampler=order,
            collate_fn=collate,
            num_workers=launcher.workers,
            pin_memory=world.device.type == "cuda",
            persistent_workers=launcher.workers > 0,
        )
        has_ended = trainer.train(
            each_in_time(loader, self.images_root),
            batch_labels(model, index, world, self.run_folder, self.params, trainer.half if compiled else None),
            functools.partial(validate, trainer.result, index, validation, self.params, world),
            must_leave=lambda: notice is not None and notice.given,
            replaced=(lambda: samples.replaced.value) if replaces else None,
            judge_start=self.start is not None,
        )
        if not has_ended and notice is not None:
            notice.leave()
        if world.is_main:
            save_model(trainer.result, self.run_folder / "final.safetensors", self.card)
            seal.put(*(self.run_folder / name for name in RESULTS))
        barrier()


def image_names(index: TrainingIndex) -> Callable[[int], str]:
    """Names an image, given by its position in an index, as the row of its corpus' source."""
    corpora = [str(corpus["name"]) for corpus in index.corpora]
    ends = list(itertools.accumulate(int(corpus["count"]) for corpus in index.corpora))
    return lambda row: f"row {index.row_ids[row]} of {corpora[bisect.bisect_right(ends, row)]}"
