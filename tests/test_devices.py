"""The checks of tests/gpu on a machine without one: on the CPU, and on a pretended second device.

The pretended device has true numbers and refuses to mix with the CPU, so it finds what a first run on a GPU would stop
at: a tensor made on the CPU, a picture not moved, a number looked up on the wrong side.
"""

from pathlib import Path

import pytest
import torch

from tests.gpu import checks
from tests.gpu.pretend import ELSEWHERE, Elsewhere, pretended_device

CPU = torch.device("cpu")


# ---- the pretended device does what it says


def test_the_pretended_device_computes_and_refuses_to_mix() -> None:
    with pretended_device() as device:
        there = torch.arange(4.0, device=device)
        assert isinstance(there, Elsewhere) and there.device == device
        assert (torch.tensor([2.0] * 4, device=device) * there).sum().item() == 12
        assert isinstance(torch.ones(4).to(device), Elsewhere) and not isinstance(there.cpu(), Elsewhere)
        assert (there[torch.tensor([3, 1])] + 1).tolist() == [4.0, 2.0]  # may be indexed from the CPU
        for mix in (
            lambda: there + torch.ones(4),
            lambda: torch.ones(4, 4) @ there,
            lambda: torch.cat([there, torch.ones(4)]),
            lambda: torch.ones(4)[there.long()],
            lambda: torch.nn.Linear(4, 2)(there),
        ):
            with pytest.raises(RuntimeError, match=r"expected all tensors on one device|indices should be"):
                mix()
        with pytest.raises(TypeError, match="call .cpu"):
            there.numpy()


@pytest.mark.parametrize("case", checks.GOLDEN)
def test_golden_arrays_on_the_pretended_device(case: str) -> None:
    with pretended_device() as device:
        for name, error, allowed in checks.golden_differences(case, device):
            assert error <= allowed, name


def test_training_and_resuming_on_the_pretended_device_are_as_on_the_cpu(tmp_path: Path) -> None:
    checks.train(tmp_path / "cpu", CPU, 3, "float32", every=2)
    with pretended_device() as device:
        checks.train(tmp_path / "there", device, 3, "float32", every=2, stop_after=2)
        resumed = checks.train(tmp_path / "there", device, 3, "float32", every=2)
        assert {parameter.device for parameter in resumed.parameters()} == {ELSEWHERE}
    expected, found = (checks.losses(tmp_path / folder) for folder in ("cpu", "there"))
    assert len(found) == 1 and found == pytest.approx(expected, rel=1e-4)


def test_features_maps_and_scores_on_the_pretended_device_are_as_on_the_cpu() -> None:
    expected = checks.everything_asked(CPU)
    with pretended_device() as device:
        found = {name: tensor.cpu() for name, tensor in checks.everything_asked(device).items()}
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=1e-4)


# ---- what else the checks on a GPU run


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_losses_in_half_precision_are_near_those_in_float32(half: torch.dtype) -> None:
    for name, difference in checks.half_precision_differences(CPU, half).items():
        assert difference < 0.02, name


@pytest.mark.slow
def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    for name, difference in checks.rank_differences("cpu", 2, tmp_path).items():
        assert difference < 1e-5, name
