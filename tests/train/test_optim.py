import pytest
import torch
from torch import nn

from caft.train.optim import learning_rate, parameter_groups


def test_rate_rises_to_the_peak_and_falls_to_zero() -> None:
    rates = [learning_rate(step, 1.0, 4, 12) for step in range(12)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[8] == pytest.approx(0.5)  # half of the cosine
    assert rates[11] == pytest.approx(0.0381, abs=1e-4)  # (1 + cos(7 pi / 8)) / 2


def test_only_matrices_decay() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    module.scale = nn.Parameter(torch.tensor(1.0))
    decaying, plain = parameter_groups(module, 0.5)
    assert [p.shape for p in decaying["params"]] == [(3, 2)]  # type: ignore[attr-defined]
    assert len(plain["params"]) == 4  # type: ignore[arg-type]
    assert (decaying["weight_decay"], plain["weight_decay"]) == (0.5, 0.0)
