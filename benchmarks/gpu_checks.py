"""Whether the training step is right on a GPU: each check gives a number and what it may be at most."""

import copy
import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.gpu_steps import Setting, Steps, waits
from benchmarks.step import texts_like_recaptions
from caft.data.training.batch import Batch
from caft.loss.part import part_loss
from caft.network.caft import CAFT
from caft.network.text_pool import TextConditionedPool
from caft.network.vision.encoder import HierarchicalVisionEncoder
from caft.network.vision.sampling import farthest_points
from caft.params import Params
from caft.params.recipes import RecipeParams
from caft.train.compiled import fast_labels
from caft.train.distributed import World
from caft.train.task import TrainingTask
from caft.train.trainer import Trainer

_FORMS: tuple[Literal["naive"], Literal["fused"]] = ("naive", "fused")


class Check(NamedTuple):
    """What was found.

    Attributes:
        found: A difference, as a share, or a share of what differs.
        allowed: At most.
    """

    found: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether it is within."""
        return self.found <= self.allowed


def all_checks(params: Params, device: torch.device) -> Iterator[tuple[str, Callable[[], dict[str, Check]]]]:
    """Each check by name, to be called."""
    yield "tiny against the CPU", lambda: _tiny(params, device)
    yield "two stages of base against the CPU", lambda: _stages(params, device)
    yield "bf16 against float32", lambda: _half(params, device)
    yield "picks of the sampling", lambda: _picks(device)
    yield "fused part loss against naive", lambda: _part(device)
    yield "labels in half precision", lambda: _labels(params, device)
    yield "a resumed step", lambda: _resumed(params, device)
    if device.type == "cuda":
        yield "twenty steps", lambda: _waits(params, device)


def _recipe(params: Params, **changes: Any) -> RecipeParams:
    short = {"batch": 8, "warmup_steps": 5, "validate_every": 10**6, "checkpoint_every": 10**6, "precision": "float32"}
    return params.recipes["paper"].model_copy(update={**short, **changes})


def _task(params: Params, recipe: RecipeParams, device: torch.device) -> TrainingTask:
    torch.manual_seed(0)
    model = CAFT(params.models["tiny"], recipe.chunks, recipe.scale_start, recipe.bias_start)
    return TrainingTask(model, recipe, 0).to(device)


def _batch(params: Params, number: int = 0, images: int = 8) -> Batch:
    model = params.models["tiny"]
    generator = torch.Generator().manual_seed(number)
    size = (images, 3, model.image_size, model.image_size)
    pixels = torch.randint(256, size, dtype=torch.uint8, generator=generator)
    return Batch(pixels, texts_like_recaptions(images, 8, model.text.context, number), torch.arange(images))


def _loss_and_gradients(task: TrainingTask, batch: Batch, labels: Tensor, half: torch.dtype | None) -> list[Tensor]:
    device = labels.device
    packed = task.pack(batch.tokens) if half is not None and device.type == "cuda" else None
    if packed is not None:
        packed = type(packed)(*(tensor.to(device) for tensor in packed))
    with torch.autocast(device.type, dtype=half, enabled=half is not None):
        loss = task.eval()(batch.images.to(device), labels, batch.tokens.to(device), 0, packed)["loss"]
    loss.backward()
    return [loss.detach().cpu(), *(p.grad.float().cpu() for p in task.parameters() if p.grad is not None)]


def _share(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm."""
    return float((found.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-30))


def _compared(found: list[Tensor], expected: list[Tensor], loss: float, gradients: float) -> dict[str, Check]:
    flat = [torch.cat([part.flatten() for part in parts[1:]]) for parts in (found, expected)]
    return {
        "loss": Check(_share(found[0], expected[0]), loss),
        "gradients": Check(_share(*flat), gradients),
    }


def _tiny(params: Params, device: torch.device) -> dict[str, Check]:
    cpu = torch.device("cpu")
    batch, recipe = _batch(params), _recipe(params)
    labels = _task(params, recipe, cpu).model.superpixel_labels(batch.images)
    expected, found = (
        _loss_and_gradients(_task(params, recipe, place), batch, labels.to(place), None) for place in (cpu, device)
    )
    return _compared(found, expected, 1e-4, 2e-2)  # its convolutions keep ten bits


def _stages(params: Params, device: torch.device) -> dict[str, Check]:
    torch.manual_seed(0)
    base = params.models["base"]
    vision = CAFT(base, 4).vision
    assert isinstance(vision, HierarchicalVisionEncoder)
    stages = list(vision.stages)[:2]
    checks = {}
    for number, stage in enumerate(stages):
        assert isinstance(stage, nn.Module)
        tokens, weights = torch.randn(2, 2, base.tokens[number] + 1, base.width)
        results = []
        for place in ("cpu", device):
            module, given = copy.deepcopy(stage).to(place), tokens.clone().to(place).requires_grad_()
            (module(given) * weights.to(place)).sum().backward()
            results.append(torch.cat([p.grad.flatten().cpu() for p in (given, *module.parameters())]))
        checks[f"stage {number + 1}"] = Check(_share(results[1], results[0]), 1e-4)
    return checks


def _half(params: Params, device: torch.device) -> dict[str, Check]:
    batch, recipe = _batch(params), _recipe(params)
    labels = _task(params, recipe, device).model.superpixel_labels(batch.images.to(device))
    full, half = (
        _loss_and_gradients(_task(params, recipe, device), batch, labels, dtype) for dtype in (None, torch.bfloat16)
    )
    return _compared(half, full, 5e-3, 8e-2)


def _picks(device: torch.device) -> dict[str, Check]:
    """Share of picks that differ from those of the CPU's loop over the same distances."""
    generator = torch.Generator().manual_seed(0)
    cases = {
        "random": torch.randn(32, 196, 64, generator=generator),
        "ties": torch.randint(3, (32, 196, 4), generator=generator).float(),
        "equal": torch.ones(4, 32, 8),
    }
    found = {}
    for name, points in cases.items():
        count = points.shape[1] // 3
        mask = torch.rand(points.shape[:2], generator=generator) < 0.1
        for masked in (None, mask):
            there = farthest_points(points.to(device), count, None if masked is None else masked.to(device)).cpu()
            differ = float((there != farthest_points(points, count, masked)).float().mean())
            found[name + (", some empty" if masked is not None else "")] = Check(differ, 0.0)
    return found


def _part(device: torch.device) -> dict[str, Check]:
    checks = {}
    for heads, segments in ((8, 64), (8, 16)):
        results = []
        for implementation in _FORMS:
            torch.manual_seed(0)
            pool = TextConditionedPool(256, heads).to(device)
            tokens, texts = torch.randn(8, segments, 256), torch.randn(24, 256)
            tokens, texts = (part.to(device).requires_grad_() for part in (tokens, texts))
            owner, scale = torch.arange(24, device=device) // 3, torch.tensor(10.0, device=device)
            loss = part_loss(
                tokens, texts, owner, pool, scale, -scale, normaliser=8, negatives="all",
                implementation=implementation,
            )  # fmt: skip
            loss.backward()
            parts = (tokens, texts, *pool.parameters())
            results.append([loss.detach().cpu(), *(p.grad.cpu() for p in parts if p.grad is not None)])
        for name, check in _compared(results[1], results[0], 1e-5, 1e-4).items():
            checks[f"{name}, {segments} segments"] = check
    return checks


def _labels(params: Params, device: torch.device) -> dict[str, Check]:
    """Share of pixels that the fast network gives to another superpixel; its weights are random, its pictures smooth."""
    torch.manual_seed(0)
    model = CAFT(params.models["base"], 4).to(device)
    coarse = torch.rand(8, 3, 14, 14, device=device)
    pixels = (255 * nn.functional.interpolate(coarse, scale_factor=16, mode="bilinear")).to(torch.uint8)
    fast = fast_labels(model, torch.bfloat16)(pixels)
    return {"share": Check(float((fast != model.superpixel_labels(pixels)).float().mean()), 5e-3)}


def _waits(params: Params, device: torch.device) -> dict[str, Check]:
    """How often steps of `tiny` in bf16 wait for the GPU."""
    recipe = _recipe(params, precision="bf16")
    steps = Steps(Setting(params.models["tiny"], recipe, device, compiled=False))
    for _ in range(3):
        steps.one()
    asked = sum(waits(steps)["count"] for _ in range(20))
    steps.close()
    return {"waits": Check(float(asked), 0.0)}


def _resumed(params: Params, device: torch.device) -> dict[str, Check]:
    """Largest difference between weights of a run and of one that was stopped and resumed, by the trainer itself."""
    recipe = _recipe(params, checkpoint_every=4)
    batches = [_batch(params, number) for number in range(4)]

    def run(folder: Path, steps: int, stop: int) -> list[Tensor]:
        task = _task(params, recipe, device)
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        trainer = Trainer(task, recipe, World(0, 1, device), folder, "check", steps, 0)
        order = islice(cycle(batches), trainer.step, stop)
        try:
            trainer.train(order, lambda batch: task.model.superpixel_labels(batch.images), dict)
        except StopIteration:
            assert stop < steps
        return [parameter.detach().cpu() for parameter in task.parameters()]

    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            whole = run(Path(folder, "whole"), 6, 6)
            run(Path(folder, "stopped"), 6, 5)
            resumed = run(Path(folder, "stopped"), 6, 6)
    finally:
        torch.use_deterministic_algorithms(before)
    largest = max(float((a - b).abs().max()) for a, b in zip(whole, resumed, strict=True))
    return {"weights": Check(largest, 0.0)}
