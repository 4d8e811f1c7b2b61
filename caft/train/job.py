"""The training job: what each rank runs."""

import bisect
import functools
import itertools
import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from caft.captions.chunking import balanced_chunks
from caft.captions.tokenizer import pad
from caft.data.tables.schema import FIELDS
from caft.data.training.batch import Batch, BatchOrder, Blocks, Sampling, TrainingSet, collate, split_validation
from caft.data.training.excluded import read_excluded, without
from caft.data.training.reader import TrainingIndex
from caft.data.training.subset import nested
from caft.errors import CheckpointError, DataError
from caft.eval.scores.retrieval import recall_at_k
from caft.locking import locked
from caft.model.card import ModelCard
from caft.model.scores import part_scores, whole_scores
from caft.network.caft import CAFT
from caft.params import Params
from caft.storage import disk_problem, replacing
from caft.train.distributed import World, barrier, seed_step, start, stop
from caft.train.stalled import answer_within, each_within
from caft.train.task import TrainingTask
from caft.train.trainer import Trainer
from caft.transforms import squash
from caft.weights.files import fill, read_weights, save_model
from slurm.preemption import Notice
from slurm.rendezvous import join

logger = logging.getLogger(__name__)
_LABELS_AT_ONCE = 64
# How long ranks of a job that is ending may take to be gone.
_PATIENCE_SECONDS = 60.0
# Images of a batch take seconds; those on a file system that hangs take for ever.
_STALLED_SECONDS = 600.0


@dataclass(frozen=True)
class TrainJob:
    """A picklable callable that trains from the newest checkpoint of its run, or from the start.

    Attributes:
        params: Settings.
        fingerprint: Of the run.
        run_folder: Shared by all ranks.
        index_folder: The training index.
        excluded: Positions in it that are left out.
        images_root: Holds a folder of shards for each corpus.
        superpixels: Weights of SFCN; None for a model without.
        card: Written beside the final weights.
    """

    params: Params
    fingerprint: str
    run_folder: Path
    index_folder: Path
    excluded: Path
    images_root: Path
    superpixels: Path | None
    card: ModelCard

    def __call__(self) -> None:
        """Runs one rank."""
        logging.basicConfig(level=logging.INFO, format="%(asctime)s rank %(process)d %(name)s: %(message)s")
        join()
        notice = Notice()
        torch.set_num_threads(self.params.selected_launcher.cpus_per_task)
        world = start()
        alone = locked(self.run_folder / "checkpoints", "training this run", _PATIENCE_SECONDS)
        try:
            with alone if world.is_main else nullcontext():
                barrier()  # no rank looks for a checkpoint before no other job can write one
                self._train(world, notice)
        except (OSError, RuntimeError) as error:
            if (problem := disk_problem(error)) is None:
                raise
            raise CheckpointError(f"{problem}; the last whole checkpoint is kept") from error
        finally:
            stop()

    def checkpoint(self, *arguments: Any, **named: Any) -> Any:
        """Called by submitit before a pre-emption or a time limit: the same job again, which resumes."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)

    def _train(self, world: World, notice: Notice) -> None:
        recipe, seed = self.params.selected_recipe, self.params.seed
        index = TrainingIndex(self.index_folder, self.images_root)
        training, validation = split_validation(index.row_ids, recipe.validation_images)
        training = without(nested(index.row_ids, training, self.params.data.fraction), read_excluded(self.excluded))
        steps = recipe.steps(len(training))
        seed_step(seed, -1, 0)  # all ranks start alike
        model = CAFT(self.params.selected_model, recipe.chunks, recipe.scale_start, recipe.bias_start)
        model.sub_caption.tokens_at_once = self.params.selected_launcher.text_tokens_at_once
        if model.superpixels is not None:
            assert self.superpixels is not None
            fill(model.superpixels, read_weights(self.superpixels), self.superpixels)
        task = TrainingTask(model, recipe, seed, self.params.selected_launcher.micro_batch).to(world.device)
        trainer = Trainer(task, recipe, world, self.run_folder, self.fingerprint, steps, seed, image_names(index))
        sampling = Sampling(
            recipe.sub_captions, recipe.chunks, recipe.max_sentences, recipe.random_rule, recipe.captions
        )
        data = self.params.data
        substitutes = training if data.damaged == "replace" else None
        samples = TrainingSet(index, model.config.image_size, recipe.crop_scale, sampling, seed, substitutes)
        blocks = Blocks(index.shards, data.shards_at_once) if data.shards_at_once is not None else None
        order = BatchOrder(training, recipe.batch, world.rank, world.size, seed, trainer.step, steps, blocks)
        workers = self.params.selected_launcher.workers
        loader: DataLoader[Any] = DataLoader(
            samples,
            batch_sampler=order,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=world.device.type == "cuda",
            persistent_workers=workers > 0,
        )
        batches = each_within(_STALLED_SECONDS, loader, self.images_root)
        labels = self._labels(model, index, world)
        scores = functools.partial(validate, model, index, validation, self.params)
        replaced = (lambda: samples.replaced.value) if data.damaged == "replace" else None
        if not trainer.train(batches, labels, scores, lambda: notice.given, replaced):
            notice.leave()
        if world.is_main:
            save_model(model, self.run_folder / "final.safetensors", self.card)
        barrier()

    def _labels(self, model: CAFT, index: TrainingIndex, world: World) -> Callable[[Batch], Tensor]:
        """Superpixels of a batch: computed once for the whole corpus where pictures are not cropped."""
        recipe, size = self.params.selected_recipe, model.config.image_size
        if recipe.crop_scale is not None or model.superpixels is None:
            return lambda batch: model.superpixel_labels(batch.images.to(world.device))
        path = self.run_folder / f"superpixels-{world.rank}-of-{world.size}.npy"
        shape = (len(index), size, size)
        mine = np.arange(world.rank, len(index), world.size)
        dtype = np.uint8 if model.config.tokens[0] <= 256 else np.uint16
        if not path.exists():
            with replacing(path) as temporary, temporary.open("wb") as file:
                maps = np.empty((len(mine), size, size), dtype)
                for first in range(0, len(mine), _LABELS_AT_ONCE):
                    rows = mine[first : first + _LABELS_AT_ONCE]
                    with answer_within(_STALLED_SECONDS, self.images_root):
                        images = torch.stack([squash(self._picture(index, int(row)), size) for row in rows])
                    maps[first : first + len(rows)] = model.superpixel_labels(images.to(world.device)).cpu().numpy()
                np.save(file, maps)
        barrier()
        parts = [
            np.load(self.run_folder / f"superpixels-{rank}-of-{world.size}.npy", mmap_mode="r")
            for rank in range(world.size)
        ]
        assert sum(map(len, parts)) == shape[0]

        def look_up(batch: Batch) -> Tensor:
            maps = np.stack([parts[row % world.size][row // world.size] for row in batch.rows.tolist()])
            return torch.from_numpy(maps.astype(np.int64)).to(world.device)

        return look_up

    def _picture(self, index: TrainingIndex, row: int) -> Image.Image:
        """A picture to find superpixels of; for one that another stands in for, anything."""
        try:
            return index.picture(row)
        except DataError:
            if self.params.data.damaged == "stop":
                raise
            return Image.new("RGB", (1, 1))


@torch.no_grad()
def validate(model: CAFT, index: TrainingIndex, rows: np.ndarray, params: Params) -> dict[str, float]:
    """Retrieval among held-out images, each with its first long caption of enough sentences, chunks balanced.

    Returns:
        R@1 in percent: `i2t_r1` and `t2i_r1` of the whole score, `part_t2i_r1` of the part score if there is one.
    """
    recipe, device = params.selected_recipe, model.device
    pixels, tokens = [], []
    for row in rows.tolist():
        counts = index.num_sentences(row)
        field = next((f for f, name in enumerate(FIELDS) if name.startswith("long_") and counts[f]), None)
        if field is None:
            continue
        try:
            with answer_within(_STALLED_SECONDS, index.images_root):
                pixels.append(squash(index.picture(row), model.config.image_size))
        except DataError:
            if params.data.damaged == "stop":
                raise
            continue
        groups = balanced_chunks(counts[field], recipe.chunks, recipe.balanced_rule)
        tokens.append(pad([index.chunk_ids(row, field, group) for group in groups], model.config.text.context))
    batch = params.evaluation.batch
    images = [model.image_features(torch.stack(pixels[i : i + batch]).to(device)) for i in range(0, len(pixels), batch)]
    whole, parts = model.text_features(torch.stack(tokens).to(device))
    image_whole = torch.cat([features.whole for features in images])
    scores = recall_at_k(whole_scores(model, image_whole, whole).numpy(), ks=(1,))
    if parts is not None:
        segments = torch.cat([features.part for features in images if features.part is not None])
        scores["part_t2i_r1"] = recall_at_k(part_scores(model, segments, parts).numpy(), ks=(1,))["t2i_r1"]
    return scores


def image_names(index: TrainingIndex) -> Callable[[int], str]:
    """Names an image by its position in an index, as the row of its corpus' source."""
    corpora = [str(corpus["name"]) for corpus in index.corpora]
    ends = list(itertools.accumulate(int(corpus["count"]) for corpus in index.corpora))
    return lambda row: f"row {index.row_ids[row]} of {corpora[bisect.bisect_right(ends, row)]}"
