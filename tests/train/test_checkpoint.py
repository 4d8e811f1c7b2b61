from pathlib import Path

import pytest
import torch

from caft.errors import CheckpointError
from caft.train import checkpoint


def state(step: int, fingerprint: str = "run") -> dict[str, object]:
    return {"fingerprint": fingerprint, "step": step, "task": {"w": torch.ones(2)}}


def test_the_newest_is_used_and_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 30):
        checkpoint.save(tmp_path, step, state(step))
    assert len(list(tmp_path.glob("*.pt"))) == 2
    found = checkpoint.latest(tmp_path, "run")
    assert found is not None and found["step"] == 30


def test_a_truncated_one_is_passed_over(tmp_path: Path) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, state(step))
    newest = max(tmp_path.glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:100])
    found = checkpoint.latest(tmp_path, "run")
    assert found is not None and found["step"] == 1


def test_another_runs_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, state(1, "other"))
    with pytest.raises(CheckpointError, match="belongs to run other, this is run run; remove the folder"):
        checkpoint.latest(tmp_path, "run")
