"""The benchmark of the step: plain forms against the library's, the components' sum, and the command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import step
from benchmarks.components import Clock
from benchmarks.gains import GAINS, lay_out, without
from benchmarks.work import step_work
from caft import CAFT
from caft.network.text.encoder import encoded_lengths
from caft.params import load_params
from caft.train.task import TrainingTask

PROJECT = Path(__file__).parents[2]
PARAMS = load_params(PROJECT / "params.yaml")
# All pairs, so that the part loss has something to do.
RECIPE = PARAMS.recipes["paper"].model_copy(update={"negatives": "all"})
IMAGES = 3


def one_step(*off: str) -> tuple[float, dict[str, torch.Tensor], Clock, float]:
    """Loss and gradients of a step with these gains off, its clock, and the seconds of all of it."""
    torch.manual_seed(0)
    config = PARAMS.models["tiny"].model_copy(update={"pool_dropout": 0.0})
    model = CAFT(config, RECIPE.chunks)
    lay_out(model.superpixels, off)
    task = TrainingTask(model, RECIPE, 0).train()
    optimizer = torch.optim.SGD(task.parameters(), lr=0.0)
    case = step.Case(config, RECIPE, IMAGES, "cpu", "float32", 1, 1, off)
    pixels = torch.randint(256, (IMAGES, 3, 64, 64), dtype=torch.uint8)
    tokens = step.texts_like_recaptions(IMAGES, RECIPE.sub_captions, 77, 0)
    clock = Clock(torch.device("cpu"), {p.untyped_storage().data_ptr() for p in task.parameters()})
    start = clock.now()
    with without(off):
        loss = step._one_step(case, task, optimizer, pixels, tokens, clock)
    return loss, {n: p.grad for n, p in task.named_parameters() if p.grad is not None}, clock, clock.now() - start


@pytest.fixture(scope="module")
def fast() -> tuple[float, dict[str, torch.Tensor], Clock, float]:
    """The step as it is."""
    return one_step()


@pytest.mark.parametrize("name", GAINS)
def test_without_a_gain_the_step_is_the_same(
    name: str, fast: tuple[float, dict[str, torch.Tensor], Clock, float]
) -> None:
    loss, gradients, *_ = one_step(name)
    assert loss == pytest.approx(fast[0], rel=1e-5)
    for key, expected in fast[1].items():
        torch.testing.assert_close(gradients[key], expected, atol=1e-4, rtol=1e-3, msg=lambda text, key=key: key + text)


def test_all_of_the_step_belongs_to_some_component(fast: tuple[float, dict[str, torch.Tensor], Clock, float]) -> None:
    _, _, clock, whole = fast
    assert sum(clock.forward.values()) + sum(clock.backward.values()) == pytest.approx(whole, rel=0.1)
    both = {"stem", "blocks 1", "blocks 4", "pooling", "text", "part loss", "whole loss"}
    assert both <= {name for name, taken in clock.forward.items() if taken > 0}
    assert both <= {name for name, taken in clock.backward.items() if taken > 0}
    assert clock.forward["sampling"] > 0 and clock.backward["sampling"] == 0
    assert clock.kept["text"] > clock.kept["blocks 4"] > 0 and clock.kept["superpixels"] == 0
    lengths = encoded_lengths(step.texts_like_recaptions(IMAGES, 8, 77, 0).flatten(0, 1))
    predicted = step_work(PARAMS.models["tiny"], RECIPE, IMAGES, lengths, True, 4)
    assert predicted.keys() - {"optimizer", "superpixels"} <= clock.forward.keys()


def test_texts_are_as_long_as_those_of_recaptions() -> None:
    tokens = step.texts_like_recaptions(200, 8, 77, 0)
    lengths = (tokens.argmax(2) + 1).float()
    assert 43 < float(lengths.mean()) < 47 and int(lengths.max()) == 77


@pytest.mark.slow
@pytest.mark.verify
def test_the_command_prints_one_object_and_nothing_else() -> None:
    command = [sys.executable, "-m", "benchmarks.step", "--json", "--model=tiny", "--recipe=smoke", "--batch=2"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert 0 < result["ratio"]["time"] and 0 < result["ratio"]["memory"]
    assert sum(row["predicted_share"] for row in result["components"].values()) == pytest.approx(1)


def test_what_is_not_there_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    for arguments, message in (
        (["--model=bass"], "--model bass: no such key in models; did you mean base?"),
        (["--batch=0"], "--batch 0: must be at least 1"),
    ):
        with pytest.raises(SystemExit, match="2"):
            step.main(arguments)
        assert message in capsys.readouterr().err
