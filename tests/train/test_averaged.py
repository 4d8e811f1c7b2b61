"""The average of the weights: its arithmetic, what it leaves out, and that a run that was killed keeps it to the bit."""

import copy
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from caft.data.training.batch import Batch
from caft.errors import ParamsError
from caft.params import load_params
from caft.train.averaged import WeightsAverage
from caft.train.cost import memory
from caft.train.distributed import World
from caft.train.plan import plan
from caft.train.trainer import Trainer
from tests.gpu import checks
from tests.ranks import run_ranks

PROJECT = Path(__file__).parents[2]
CPU = torch.device("cpu")
DECAY, STEPS = 0.75, 4
YES, NO = torch.tensor(True), torch.tensor(False)


def test_three_steps_by_hand() -> None:
    norm: Any = nn.BatchNorm2d(1)
    average = WeightsAverage(norm, DECAY)
    for value in (4.0, 8.0, 0.0):
        nn.init.constant_(norm.weight, value)
        norm.running_mean.fill_(-value)
        norm.num_batches_tracked += 1
        average.update(norm, YES)
    # From 1: 3/4 + 4/4 = 1.75; 1.3125 + 8/4 = 3.3125; 2.484375 + 0. From 0: -1; -0.75 - 2 = -2.75; -2.0625.
    assert average.model.weight.tolist() == [2.484375]
    assert average.model.running_mean.tolist() == [-2.0625]
    assert average.model.num_batches_tracked == 3  # counts are those of the last step
    assert not average.model.training and not average.model.weight.requires_grad
    assert norm.training and norm.weight.requires_grad and norm.weight.tolist() == [0.0]


def test_a_step_that_was_not_done_leaves_it_whatever_became_of_the_statistics() -> None:
    norm: Any = nn.BatchNorm2d(2)
    average = WeightsAverage(norm, DECAY)
    before = copy.deepcopy(average.model.state_dict())
    norm.running_mean.fill_(float("nan"))
    norm.running_var.fill_(float("inf"))
    norm.num_batches_tracked += 1
    average.update(norm, NO)
    assert all(torch.equal(value, before[name]) for name, value in average.model.state_dict().items())


# ---- in a training


def trainer(folder: Path, world: World, **changes: Any) -> Trainer:
    settings = checks.recipe(batch=4, checkpoint_every=2, **{"weights_ema": DECAY, **changes})
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    made = checks.task(settings, world.device)
    return Trainer(made, settings, world, folder, "averaged", STEPS, seed=0)


def through(made: Trainer, until: int = STEPS) -> Trainer:
    """The training from where it is; killed in the step after `until`, if that is not the last."""
    share, rank = 4 // made.world.size, made.world.rank
    whole = checks.random_batches(STEPS, images=4)
    batches = [Batch(*(part[rank * share :][:share] for part in (b.images, b.tokens, b.rows))) for b in whole]
    labels = made.task.model.superpixel_labels
    try:
        made.train(batches[made.step : until], lambda batch: labels(batch.images), dict)  # type: ignore[arg-type]
    except StopIteration:
        assert until < STEPS
    return made


def state_of(made: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in made.result.state_dict().items()}


def test_a_training_keeps_the_average_of_its_weights_after_each_step(tmp_path: Path) -> None:
    made = trainer(tmp_path, World(0, 1, CPU))
    expected = {name: value.double() for name, value in made.task.model.state_dict().items()}
    one_step = made._one_step

    def followed(*arguments: Any) -> Any:
        found = one_step(*arguments)
        for name, value in made.task.model.state_dict().items():
            exact = value.is_floating_point()
            expected[name] = DECAY * expected[name] + (1 - DECAY) * value.double() if exact else value.double()
        return found

    with mock.patch.object(made, "_one_step", followed):
        through(made)
    for name, value in state_of(made).items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-7, msg=lambda m, n=name: n + m)
    trained = made.task.model.state_dict()
    differ = {name for name, value in state_of(made).items() if not torch.equal(value, trained[name])}
    assert {"vision.cls", "whole_log_scale"} <= differ
    assert not any(name.startswith("superpixels.") for name in differ)  # they are frozen
    plain = through(trainer(tmp_path / "plain", World(0, 1, CPU), weights_ema=None))
    assert plain.result is plain.task.model
    # The average changes nothing of what it is the average of.
    assert all(torch.equal(value, trained[name]) for name, value in plain.task.model.state_dict().items())


def on_ranks(rank: int, size: int, folder: Path) -> None:
    world = World(rank, size, CPU)
    torch.save(state_of(through(trainer(folder / f"whole-{size}", world))), folder / f"whole-{rank}-of-{size}.pt")
    killed = folder / f"killed-{size}"
    through(trainer(killed, world), until=3)
    resumed = trainer(killed, world)
    assert resumed.step == 2
    torch.save(state_of(through(resumed)), folder / f"resumed-{rank}-of-{size}.pt")


@pytest.mark.slow
def test_a_run_that_was_killed_ends_with_the_same_bits_and_ranks_agree(tmp_path: Path) -> None:
    run_ranks(on_ranks, tmp_path, 2)

    def read(name: str) -> dict[str, Tensor]:
        found: dict[str, Tensor] = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        return found

    def differing(one: str, other: str) -> set[str]:
        others = read(other)
        return {name for name, value in read(one).items() if not torch.equal(value, others[name])}

    assert not differing("whole-0-of-2", "resumed-0-of-2")
    # Statistics of batch norm are of a rank's own images; the main rank's are those that are kept.
    statistics = differing("whole-0-of-2", "whole-1-of-2")
    assert statistics and all(name.endswith(("running_mean", "running_var")) for name in statistics)


def test_a_step_without_a_finite_loss_is_not_averaged(tmp_path: Path) -> None:
    made = trainer(tmp_path, World(0, 1, CPU))
    through(made, until=2)
    before, forward = state_of(made), made.wrapped.forward

    def spoilt(*arguments: Any) -> Any:
        terms = forward(*arguments)
        return {**terms, "loss": terms["loss"] * float("nan")}

    with mock.patch.object(made.wrapped, "forward", spoilt):
        through(made, until=3)
    assert made.skipped == 1
    assert all(torch.equal(value, before[name]) for name, value in state_of(made).items())


# ---- what it costs, and what is refused


def test_the_estimate_of_memory_counts_a_second_set_of_weights() -> None:
    params = load_params(PROJECT / "params.yaml", values=["train.weights_ema=0.9"])
    sizes, averaged = params.selected_model, params.selected_recipe
    plain = averaged.model_copy(update={"weights_ema": None})
    made = checks.task(plain, CPU).model
    trained = [*made.parameters(), *made.buffers()]
    frozen = [*made.superpixels.parameters(), *made.superpixels.buffers()]
    expected = 4 * (sum(t.numel() for t in trained) - sum(t.numel() for t in frozen))
    assert memory(sizes, averaged, 4, 1, 4, 77).state - memory(sizes, plain, 4, 1, 4, 77).state == expected
    assert "weights, their average and optimizer" in plan(params)[-1]
    assert "weights and optimizer" in plan(load_params(PROJECT / "params.yaml"))[-1]


@pytest.mark.parametrize("given", ["0.0", "1.0", "-0.5", ".nan", "most"])
def test_no_share_is_refused(given: str) -> None:
    with pytest.raises(ParamsError, match=r"train.weights_ema = "):
        load_params(PROJECT / "params.yaml", values=[f"train.weights_ema={given}"])
