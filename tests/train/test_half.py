"""A whole step in bf16 on the CPU against float32, and what must stay in float32."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from caft import CAFT
from caft.loss.part_tiles import FusedPairSum
from caft.params import load_params
from caft.train.task import TrainingTask

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
RECIPE = PARAMS.recipes["release"]


def step(half: bool) -> tuple[float, Tensor]:
    """Loss, and the gradient of all weights as one vector."""
    torch.manual_seed(0)
    config = PARAMS.models["tiny"].model_copy(update={"pool_dropout": 0.0})
    task = TrainingTask(CAFT(config, RECIPE.chunks), RECIPE, seed=0).train()
    images = torch.randint(256, (6, 3, 64, 64), dtype=torch.uint8)
    tokens = torch.zeros(6, RECIPE.sub_captions, 77, dtype=torch.long)
    tokens[..., :12] = torch.randint(1, 400, (6, RECIPE.sub_captions, 12))
    tokens[..., 12] = 49407
    labels = torch.arange(64).view(8, 8).repeat_interleave(8, 0).repeat_interleave(8, 1).expand(6, 64, 64)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        terms = task(images, labels, tokens, 0)
    terms["loss"].backward()
    return float(terms["loss"].detach()), torch.cat([p.grad.flatten() for p in task.parameters() if p.grad is not None])


def test_a_step_in_bf16_is_near_the_one_in_float32_and_keeps_its_islands(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, whole = step(half=False)
    seen: set[torch.dtype] = set()
    apply = FusedPairSum.apply

    def pairs(labels: Tensor, index: Any, *arguments: Tensor) -> Any:
        seen.update(tensor.dtype for tensor in (labels, *arguments))
        return apply(labels, index, *arguments)

    monkeypatch.setattr(FusedPairSum, "apply", pairs)
    found, half = step(half=True)
    assert seen == {torch.float32}
    assert found == pytest.approx(expected, rel=0.02)
    assert half.dtype == torch.float32 and bool(half.isfinite().all())
    assert torch.nn.functional.cosine_similarity(half, whole, dim=0) > 0.97
