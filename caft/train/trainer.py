"""The training loop: forward, backward, step; and what it writes down."""

import json
import logging
import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from caft.data.training.batch import Batch
from caft.errors import CaftError
from caft.network import gpu
from caft.network.caft import CAFT
from caft.network.text.encoder import can_pack
from caft.params.recipes import RecipeParams
from caft.storage import replacing
from caft.train import checkpoint
from caft.train.ahead import Placed, placed
from caft.train.averaged import WeightsAverage
from caft.train.compiled import compile_task
from caft.train.distributed import World, barrier, of_all, of_main, seed_step
from caft.train.optim import learning_rate, parameter_groups
from caft.train.speed import STOPS, Speed
from caft.train.task import TrainingTask

logger = logging.getLogger(__name__)
_LOG_EVERY = 10
# Steps without finite gradients, one after another, that end a run; a scaler of fp16 may need some to find its scale.
_LOST_STEPS = 20


@dataclass(frozen=True)
class Verdict:
    """Whether a step's gradients were finite, as it is read by the program, of a GPU once its kernels are done.

    Attributes:
        step: Which.
        rows: Of its images.
        numbers: Norm of the gradients and loss, on the host.
        there: Says when they are; None where they are.
    """

    step: int
    rows: Tensor
    numbers: Tensor
    there: torch.cuda.Event | None

    @classmethod
    def of(cls, step: int, norm: Tensor, loss: Tensor, rows: Tensor) -> "Verdict":
        """Asks for the numbers."""
        numbers = torch.stack([norm.float(), loss.float()])
        if not gpu.runs_ahead(norm.device):
            return cls(step, rows, numbers, None)
        there = torch.cuda.Event()
        numbers = numbers.to("cpu", non_blocking=True)
        there.record()
        return cls(step, rows, numbers, there)

    @property
    def is_known(self) -> bool:
        """Whether reading waits for nothing."""
        return self.there is None

    @property
    def finite(self) -> bool:
        """Whether the norm is."""
        return math.isfinite(self._read(0))

    @property
    def loss(self) -> float:
        """The loss."""
        return self._read(1)

    def _read(self, place: int) -> float:
        if self.there is not None:
            self.there.synchronize()
        return float(self.numbers[place])


class Trainer:
    """Trains a task, which is on the world's device, and leaves checkpoints and `metrics.jsonl` in the run's folder.

    All ranks share the folder; checkpoints in it of another `fingerprint` are refused. `name_image` says which image a
    position in the index is, for messages; `compiled`, whether the step is compiled.
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
        name_image: Callable[[int], str] = str,
        compiled: bool = False,
    ) -> None:
        self.task, self.recipe, self.world = task, recipe, world
        self.run_folder, self.fingerprint, self.steps, self.seed = run_folder, fingerprint, steps, seed
        self.metrics = run_folder / "metrics.jsonl"
        self.log_every = _LOG_EVERY
        self._since = time.perf_counter()
        self.name_image = name_image
        self.step = 0
        self.skipped, self.skipped_in_a_row = 0, 0
        self._unread: Verdict | None = None
        self._lines = ""  # of the curves up to the checkpoint
        groups = parameter_groups(task, recipe.weight_decay, task.rate_scale)
        self.optimizer = torch.optim.AdamW(
            groups, lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.eps, fused=True
        )
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(recipe.precision)
        self.half = half if world.device.type == "cuda" else None
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=self.half is torch.float16)
        decay = recipe.weights_ema
        self.average = WeightsAverage(task.model, decay) if decay is not None else None
        self.wrapped: nn.Module = task
        if world.size > 1:
            self.wrapped = DistributedDataParallel(task, gradient_as_bucket_view=True)
            # Not sent at each step: buffers are constants, and batch norm's statistics, of which the main rank's are kept.
            self.wrapped.broadcast_buffers = False
        if compiled:
            compile_task(task)
        self.compiled = compiled
        self._resume()

    @property
    def result(self) -> CAFT:
        """The model that is validated, and kept at the end: the average of the weights if there is one."""
        return self.average.model if self.average is not None else self.task.model

    def _resume(self) -> None:
        folder = self.run_folder / "checkpoints"
        # One rank chooses: what is damaged for one might not be for another.
        path = of_main(checkpoint.newest(folder, self.fingerprint) if self.world.is_main else None)
        if path is None:
            return
        state = checkpoint.load(path)
        self.task.load_state_dict(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.model.load_state_dict(state["average"])
        self.step, self.skipped, self._lines = state["step"], state["skipped"], state["metrics"]
        logger.info("resuming at step %d of %d", self.step, self.steps)
        if state["ranks"] != self.world.size:
            logger.warning(
                "%d ranks continue what %d began: the batches stay the same and in the same order, but negatives are "
                "drawn among the images of one rank, the loss is divided by its pairs, and sums are rounded in another "
                "order, so the weights will not be those of a run with as many ranks throughout",
                self.world.size,
                state["ranks"],
            )

    def train(
        self,
        loader: Iterable[Batch],
        labels: Callable[[Batch], Tensor],
        validate: Callable[[], dict[str, float]],
        must_leave: Callable[[], bool] = lambda: False,
        replaced: Callable[[], int] | None = None,
        judge_start: bool = False,
    ) -> bool:
        """Runs the steps that are left.

        Args:
            loader: Batches of this rank from the current step on.
            labels: Superpixels of a batch, (B, S, S), on the world's device.
            validate: Scores of `result` on held-out images; called on all ranks, and what the main rank returns counts.
            must_leave: Asked after each step on the main rank.
            replaced: How many of this rank's pictures could not be read since this start, where others stand in.
            judge_start: Whether to validate before the first step too, as the line of step 0.

        Returns:
            Whether all steps are done; if not, this rank has saved its state and the others are waiting for it.

        Raises:
            CaftError: The gradients were not finite in too many steps one after another.
        """
        again = self._steps_again()
        if self.world.is_main:
            with replacing(self.metrics) as temporary:  # the steps of later lines are done again
                temporary.write_text(self._lines)
        self.task.train()
        is_half, stops = self.half is not None, self.run_folder / STOPS
        speed = Speed(self.task.model.config, self.recipe, self.world, is_half, stops, self.compiled, since=self._since)
        packs = self.half is not None and can_pack()
        batches = placed(loader, self.world.device, self.task.pack if packs else None)
        if judge_start and self.step == 0:
            self._validate(validate)
        while self.step < self.steps:
            with speed.waiting():
                batch = next(batches)
            terms, norm, rate = self._one_step(batch, labels)
            self.step += 1
            speed.add(batch.tokens, self.step, again=again)
            if self.step % self.log_every == 0 or self.step == self.steps:
                self._judge_last()
                found = speed.read()
                if replaced is not None:
                    found["replaced_images"] = float(sum(of_all(replaced())))
                if self.world.is_main:
                    self._record(terms, norm, rate, found)
            if self.step % self.recipe.validate_every == 0 or self.step == self.steps:
                with speed.stopped("validation", self.step):
                    self._validate(validate)
            if self.step % self.recipe.checkpoint_every == 0 or self.step == self.steps:
                with speed.stopped("checkpoint", self.step):
                    self._save()
                    barrier()
            if self.world.is_main and self.step < self.steps and must_leave():
                logger.warning("notice to leave: saving step %d", self.step)
                self._save()
                return False
        return True

    def _steps_again(self) -> int:
        """Steps that an earlier start has logged beyond the checkpoint, so at least so many are done again."""
        lines = self.metrics.read_text().splitlines() if self.world.is_main and self.metrics.is_file() else []
        reached = 0
        for line in lines:
            try:
                reached = max(reached, int(json.loads(line)["step"]))
            except (ValueError, KeyError, TypeError):  # the last line of a process that was killed
                continue
        return max(0, reached - self.step)

    def _one_step(self, placed: Placed, labels: Callable[[Batch], Tensor]) -> tuple[dict[str, Tensor], Tensor, float]:
        device, batch = self.world.device, placed.batch
        seed_step(self.seed, self.step, self.world.rank)
        recipe = self.recipe
        shape = recipe.warmup_steps, self.steps, recipe.schedule, recipe.cooldown
        rate = learning_rate(self.step, recipe.learning_rate, *shape)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        with torch.autocast(device.type, dtype=self.half, enabled=self.half is not None):
            terms = self.wrapped(batch.images, labels(batch), batch.tokens, self.step, placed.packed)
        loss = terms["loss"]
        # Makes the gradients of all ranks not a number where the loss of one is not finite, so that all skip the step.
        loss = loss * torch.where(loss.detach().isfinite(), 1.0, float("nan"))
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = self._clipped_norm()
        verdict = Verdict.of(self.step, norm, terms["loss"].detach(), batch.rows)
        if verdict.is_known:
            if verdict.finite:
                self.scaler.step(self.optimizer)
            self._judge(verdict)
        else:
            self._step_if_finite(norm)
            self._judge_last()  # of the step before, which is done by now or soon
            self._unread = verdict
        self.scaler.update()
        self.task.clamp_scales()
        if self.average is not None:
            self.average.update(self.task.model, norm.isfinite())
        return {name: term.detach() for name, term in terms.items()}, norm, rate

    def _clipped_norm(self) -> Tensor:
        """Norm of all gradients, which are clipped if the recipe says so."""
        trained = [p for p in self.task.parameters() if p.requires_grad]
        if self.recipe.clip_norm is not None:
            return nn.utils.clip_grad_norm_(trained, self.recipe.clip_norm)
        return nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])

    def _step_if_finite(self, norm: Tensor) -> None:
        """A step of the optimizer whose kernel leaves everything as it is where the norm is not finite."""
        self.optimizer.grad_scale = None  # type: ignore[attr-defined]  # the scaler's way to the kernel
        self.optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        del self.optimizer.grad_scale, self.optimizer.found_inf  # type: ignore[attr-defined]

    def _judge_last(self) -> None:
        """Reads the verdict that is still on its way, if one is."""
        if self._unread is not None:
            verdict, self._unread = self._unread, None
            self._judge(verdict)

    def _judge(self, verdict: Verdict) -> None:
        """Counts a step that would have spoilt the weights; all ranks see the same gradients and so do the same.

        Raises:
            CaftError: There were too many one after another.
        """
        if verdict.finite:
            self.skipped_in_a_row = 0
            return
        self.skipped += 1
        self.skipped_in_a_row += 1
        mine = math.isfinite(verdict.loss)
        images = [self.name_image(row) for row in verdict.rows.tolist()]
        if not mine or self.world.is_main:
            what = f"loss is {verdict.loss} on {', '.join(images)}" if not mine else "gradients are not finite"
            logger.warning("step %d is skipped, %d so far: the %s", verdict.step, self.skipped, what)
        if self.skipped_in_a_row < _LOST_STEPS:
            return
        found = of_all((mine, images))
        lost = [image for finite, images in found if not finite for image in images]
        seen = lost or [image for _, images in found for image in images]
        raise CaftError(
            f"step {verdict.step}: the {'loss is' if lost else 'gradients are'} not finite, in {self.skipped_in_a_row} "
            f"steps one after another; this one's images are {', '.join(seen)}. Look at them and their captions, "
            "lower train.learning_rate, or set train.clip_norm"
        )

    def _record(self, terms: dict[str, Tensor], norm: Tensor, rate: float, speed: dict[str, float]) -> None:
        temperatures = {}
        for level, (log_scale, bias) in self.task.model.temperatures.items():
            temperatures[f"{level}_scale"] = float(log_scale.detach().exp())
            temperatures[f"{level}_bias"] = float(bias.detach())
        row = {
            "loss": float(terms["loss"]),
            **{f"{name}_loss": float(term) for name, term in terms.items() if name not in ("loss", "clamped_pairs")},
            **temperatures,
            **speed,
            "grad_norm": float(norm),
            "learning_rate": rate,
        }
        if "clamped_pairs" in terms:
            row["clamped_pairs"] = float(terms["clamped_pairs"])
        if self.skipped:
            row["skipped_steps"] = self.skipped
        self._write(row)

    def _validate(self, validate: Callable[[], dict[str, float]]) -> None:
        self.task.eval()
        # Other batches than those of training would be compiled for anew.
        with torch.compiler.set_stance("force_eager") if self.compiled else nullcontext():
            found = validate()
        self.task.train()
        if self.world.is_main:
            self._write({f"validation_{name}": value for name, value in found.items()})
        barrier()

    def _write(self, row: dict[str, float]) -> None:
        place = {"step": self.step, "samples": self.step * self.recipe.batch}
        with self.metrics.open("a") as file:
            # JSON has no other numbers than finite ones; a step that was skipped may have some.
            finite = {name: round(value, 6) for name, value in row.items() if math.isfinite(value)}
            file.write(json.dumps({**place, **finite}) + "\n")

    def _save(self) -> None:
        self._judge_last()
        if self.world.is_main:
            state = {
                "fingerprint": self.fingerprint,
                "step": self.step,
                "skipped": self.skipped,
                "ranks": self.world.size,
                "metrics": self.metrics.read_text(),
                "task": self.task.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
            }
            if self.average is not None:
                state["average"] = self.average.model.state_dict()
            checkpoint.save(self.run_folder / "checkpoints", self.step, state)
