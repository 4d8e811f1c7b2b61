"""The training loop: forward, backward, step; and what it writes down."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from caft.data.batch import Batch
from caft.errors import CaftError
from caft.params import RecipeParams
from caft.storage import replacing
from caft.train import checkpoint
from caft.train.distributed import World, barrier, seed_step
from caft.train.optim import learning_rate, parameter_groups
from caft.train.task import TrainingTask

logger = logging.getLogger(__name__)
_LOG_EVERY = 10


class Trainer:
    """Trains a task and leaves checkpoints and `metrics.jsonl` in the run's folder.

    Args:
        task: Model and losses, on the world's device.
        recipe: Optimizer, schedule, precision, intervals.
        world: This process among the ranks.
        run_folder: Of this run; shared by all ranks.
        fingerprint: Of this run; a checkpoint of another is refused.
        steps: Length of the run.
        seed: Of the run.
    """

    def __init__(
        self,
        task: TrainingTask,
        recipe: RecipeParams,
        world: World,
        run_folder: Path,
        fingerprint: str,
        steps: int,
        seed: int,
    ) -> None:
        self.task, self.recipe, self.world = task, recipe, world
        self.run_folder, self.fingerprint, self.steps, self.seed = run_folder, fingerprint, steps, seed
        self.step = 0
        groups = parameter_groups(task, recipe.weight_decay)
        self.optimizer = torch.optim.AdamW(
            groups, lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.eps, fused=True
        )
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(recipe.precision)
        self.half = half if world.device.type == "cuda" else None
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=self.half is torch.float16)
        self.wrapped: nn.Module = task
        if world.size > 1:
            self.wrapped = DistributedDataParallel(task)
        self._resume()

    def _resume(self) -> None:
        state = checkpoint.latest(self.run_folder / "checkpoints", self.fingerprint)
        if state is None:
            return
        self.task.load_state_dict(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step = state["step"]
        logger.info("resuming at step %d of %d", self.step, self.steps)

    def train(
        self,
        loader: DataLoader[Any],
        labels: Callable[[Batch], Tensor],
        validate: Callable[[], dict[str, float]],
    ) -> None:
        """Runs the steps that are left.

        Args:
            loader: Batches of this rank from the current step on.
            labels: Superpixels of a batch, (B, S, S), on the world's device.
            validate: Scores of the model on held-out images; called on the main rank.
        """
        if self.world.is_main:
            self._forget_later_metrics()
        self.task.train()
        waited, window_start, window_steps = 0.0, time.perf_counter(), 0
        batches = iter(loader)
        while self.step < self.steps:
            before = time.perf_counter()
            batch: Batch = next(batches)
            waited += time.perf_counter() - before
            terms, norm, rate = self._one_step(batch, labels)
            self.step += 1
            window_steps += 1
            if self.step % _LOG_EVERY == 0 or self.step == self.steps:
                elapsed = time.perf_counter() - window_start
                if self.world.is_main:
                    self._record(terms, norm, rate, window_steps * self.recipe.batch / elapsed, waited / elapsed)
                waited, window_start, window_steps = 0.0, time.perf_counter(), 0
            if self.step % self.recipe.validate_every == 0 or self.step == self.steps:
                self._validate(validate)
                window_start = time.perf_counter()
            if self.step % self.recipe.checkpoint_every == 0 or self.step == self.steps:
                self._save()
                window_start = time.perf_counter()

    def _one_step(self, batch: Batch, labels: Callable[[Batch], Tensor]) -> tuple[dict[str, Tensor], Tensor, float]:
        device = self.world.device
        seed_step(self.seed, self.step, self.world.rank)
        rate = learning_rate(self.step, self.recipe.learning_rate, self.recipe.warmup_steps, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        images, tokens = batch.images.to(device), batch.tokens.to(device)
        with torch.autocast(device.type, dtype=self.half, enabled=self.half is not None):
            terms = self.wrapped(images, labels(batch), tokens, self.step)
        if not bool(terms["loss"].isfinite()):
            raise CaftError(
                f"step {self.step}: the loss is {float(terms['loss'])} on the images {batch.rows.tolist()[:8]} ...; "
                "lower train.learning_rate or set train.clip_norm"
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(terms["loss"]).backward()
        self.scaler.unscale_(self.optimizer)
        limit = self.recipe.clip_norm if self.recipe.clip_norm is not None else float("inf")
        norm = nn.utils.clip_grad_norm_([p for p in self.task.parameters() if p.requires_grad], limit)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.task.clamp_scales()
        return {name: term.detach() for name, term in terms.items()}, norm, rate

    def _record(self, terms: dict[str, Tensor], norm: Tensor, rate: float, speed: float, waiting: float) -> None:
        temperatures = {}
        for level, (log_scale, bias) in self.task.model.temperatures.items():
            temperatures[f"{level}_scale"] = float(log_scale.detach().exp())
            temperatures[f"{level}_bias"] = float(bias.detach())
        row = {
            "loss": float(terms["loss"]),
            **{f"{name}_loss": float(term) for name, term in terms.items() if name != "loss"},
            **temperatures,
            "images_per_s": speed,
            "data_wait_share": waiting,
            "grad_norm": float(norm),
            "learning_rate": rate,
        }
        self._write(row)

    def _validate(self, validate: Callable[[], dict[str, float]]) -> None:
        if self.world.is_main:
            self.task.eval()
            self._write({f"validation_{name}": value for name, value in validate().items()})
            self.task.train()
        barrier()

    def _write(self, row: dict[str, float]) -> None:
        place = {"step": self.step, "samples": self.step * self.recipe.batch}
        with self._metrics().open("a") as file:
            file.write(json.dumps({**place, **{name: round(value, 6) for name, value in row.items()}}) + "\n")

    def _save(self) -> None:
        if self.world.is_main:
            state = {
                "fingerprint": self.fingerprint,
                "step": self.step,
                "task": self.task.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
            }
            checkpoint.save(self.run_folder / "checkpoints", self.step, state)
        barrier()

    def _metrics(self) -> Path:
        return self.run_folder / "metrics.jsonl"

    def _forget_later_metrics(self) -> None:
        """Drops lines past the checkpoint: their steps are done again."""
        if not self._metrics().exists():
            return
        kept = []
        for line in self._metrics().read_text().splitlines():
            try:
                if json.loads(line)["step"] <= self.step:
                    kept.append(line + "\n")
            except json.JSONDecodeError:
                continue  # cut off by a kill
        with replacing(self._metrics()) as temporary:
            temporary.write_text("".join(kept))
