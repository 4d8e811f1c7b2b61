"""Micro-batches against the whole batch: loss, gradients and statistics, over two gloo ranks and with dropout."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from caft import CAFT
from caft.errors import ParamsError
from caft.params import load_params
from caft.train.cost import memory
from caft.train.task import TrainingTask
from tests.ranks import run_ranks

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
# The three terms of the losses.
RECIPE = PARAMS.recipes["release"]
RANKS, IMAGES = 2, 8
SIZES = (None, 4, 2)


def make(micro_batch: int | None, dropout: float = 0.0) -> TrainingTask:
    """A small model in float64; the stem alone is given float32, and told to take it."""
    torch.manual_seed(0)
    config = PARAMS.models["tiny"]
    text = config.text.model_copy(update={"vocabulary": 64, "width": 16, "heads": 2})
    config = config.model_copy(update={"text": text, "pool_dropout": dropout, "width": 32, "heads": 2})
    model = CAFT(config, RECIPE.chunks, RECIPE.scale_start, RECIPE.bias_start).double()
    model.vision.stem.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    return TrainingTask(model, RECIPE, seed=0, micro_batch=micro_batch).train()


def batch(rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and tokens."""
    generator = torch.Generator().manual_seed(rank)
    images = torch.randint(256, (IMAGES, 3, 64, 64), generator=generator, dtype=torch.uint8)
    labels = torch.randint(64, (IMAGES, 64, 64), generator=generator)
    tokens = torch.randint(1, 60, (IMAGES, RECIPE.sub_captions, 77), generator=generator)
    ends = torch.randint(3, 77, tokens.shape[:2], generator=generator)[..., None]
    places = torch.arange(77)
    return images, labels, torch.where(places < ends, tokens, torch.where(places == ends, 63, 0))


def step(task: TrainingTask, wrapped: torch.nn.Module, rank: int) -> dict[str, Tensor]:
    """Loss, gradients and buffers after one step."""
    torch.manual_seed(1)
    loss = wrapped(*batch(rank), 5)["loss"]
    loss.backward()
    gradients = {name: p.grad for name, p in task.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **gradients, **dict(task.named_buffers())}


def run_steps(rank: int, _: int, folder: Path) -> None:
    for size in SIZES:
        task = make(size)
        torch.save(step(task, DistributedDataParallel(task), rank), folder / f"{size}-{rank}.pt")


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-10, rtol=1e-10, msg=lambda text, name=name: name + text)


def test_over_two_ranks_two_and_four_micro_batches_are_the_whole_batch(tmp_path: Path) -> None:
    run_ranks(run_steps, tmp_path, RANKS)
    for rank in range(RANKS):
        whole, *divided = (torch.load(tmp_path / f"{size}-{rank}.pt") for size in SIZES)
        assert len(whole) > 100 and float(whole["loss"]) > 1
        assert any("running_mean" in name and bool(value.any()) for name, value in whole.items())
        for found in divided:
            assert_equal(found, whole)


def test_dropout_draws_the_same_in_both_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make(2, dropout=0.5)
    found = step(task, task, rank=0)

    def kept(function: Any, *inputs: Tensor, **_: Any) -> Any:
        return function(*inputs)

    monkeypatch.setattr("caft.train.task.checkpoint", kept)
    task = make(2, dropout=0.5)
    assert_equal(found, step(task, task, rank=0))


def test_what_is_kept_for_the_backward_pass_is_a_small_part() -> None:
    kept = {}
    for size in (None, 2):
        task = make(size)
        sizes: list[int] = []

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            task(*batch(0), 5)
        kept[size] = sum(sizes)
    assert kept[2] < kept[None] / 4, kept


def test_a_micro_batch_that_does_not_divide_a_ranks_images_is_refused(tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("launchers: {local: {micro_batch: 7}}")
    message = r"launchers.local.micro_batch = 7: must divide the 24 images of a rank .*; nearest below is 6"
    with pytest.raises(ParamsError, match=message):
        load_params(Path(__file__).parents[2] / "params.yaml", [overlay])
    overlay.write_text("launchers: {local: {micro_batch: 8}}")
    assert load_params(Path(__file__).parents[2] / "params.yaml", [overlay]).selected_launcher.micro_batch == 8


def test_by_the_formula_the_papers_batch_fits_into_one_card_of_80_gb() -> None:
    arguments = PARAMS.models["base"], PARAMS.recipes["paper"], 2048, 1, 2, 77
    assert memory(*arguments).total > 200e9
    assert memory(*arguments, micro_batch=64).total < 50e9
