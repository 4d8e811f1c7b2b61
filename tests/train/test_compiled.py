"""A compiled step: one graph a region, the losses and the weights of eager mode, and the names of the weights kept."""

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from caft.loss import part_tiles
from caft.network.caft import CAFT
from caft.params import load_params
from caft.train.ahead import placed
from caft.train.compiled import fast_labels, folded
from caft.train.distributed import World
from caft.train.trainer import Trainer
from tests.gpu import checks

PROJECT = Path(__file__).parents[2]
CPU = torch.device("cpu")
# Traces forward and backward as the default does, but runs torch's own kernels: no minutes of C++ compilation.
BACKEND = "aot_eager"


def trained(folder: Path, compiled: bool) -> tuple[list[float], Trainer]:
    """Losses of three steps without dropout, whose draws a compiler makes otherwise."""
    (folder / "checkpoints").mkdir(parents=True)
    settings = checks.recipe(batch=4, clip_norm=1.0)
    task = checks.task(settings, CPU).train()
    for pool in task.model.vision.pools:
        pool.dropout.p = 0.0
    trainer = Trainer(task, settings, World(0, 1, CPU), folder, "compiled", 10, seed=0, compiled=compiled)
    losses = []
    for one in placed(checks.random_batches(3, images=4), CPU):
        terms, _, _ = trainer._one_step(one, lambda batch: task.model.superpixel_labels(batch.images))
        trainer.step += 1
        losses.append(terms["loss"].item())
    return losses, trainer


def test_a_compiled_step_is_as_without(tmp_path: Path) -> None:
    compile_ = torch.compile

    def traced(function: Any, **named: Any) -> Any:
        return compile_(function, **{**named, "backend": BACKEND, "fullgraph": True})  # a break in a graph raises

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    try:
        expected, eager = trained(tmp_path / "eager", False)
        with mock.patch("torch.compile", traced):
            found, trainer = trained(tmp_path / "compiled", True)
        assert part_tiles._tile is not part_tiles.tile_loss
    finally:
        part_tiles._tile = part_tiles.tile_loss
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    # Stem, four stages, three poolings, whole caption, one tile of the part loss; nothing a second time.
    assert graphs == 10
    assert found == pytest.approx(expected, rel=1e-5)
    weights, others = eager.task.state_dict(), trainer.task.state_dict()
    assert weights.keys() == others.keys()
    # A step of AdamW is as long for a gradient that is rounding noise as for any other.
    rate = 3 * eager.recipe.learning_rate
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, atol=rate, rtol=1e-3, msg=lambda text, name=name: name + text)


def test_batch_norms_folded_into_convolutions_change_no_label() -> None:
    torch.manual_seed(0)
    model = CAFT(load_params(PROJECT / "params.yaml").models["tiny"], 4).eval()
    for module in model.superpixels.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    pixels = torch.randint(256, (4, 3, 64, 64), dtype=torch.uint8)
    expected = model.superpixel_labels(pixels)
    with mock.patch("torch.compile", lambda function, **_: function):
        assert torch.equal(fast_labels(model, None)(pixels), expected)
        half = fast_labels(model, torch.bfloat16)(pixels)
    assert float((half == expected).float().mean()) > 0.99
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded(model.superpixels).modules())
