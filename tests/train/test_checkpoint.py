"""Checkpoints that are damaged, half made or another run's are passed over with the reason, and the one before is used."""

import json
import logging
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from caft.storage import disk_problem
from caft.train import checkpoint


def state(step: int, fingerprint: str = "run", size: int = 2) -> dict[str, object]:
    return {"fingerprint": fingerprint, "step": step, "task": {"w": torch.full((size,), float(step))}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, state(step, size=1000))
    return tmp_path


def newest(folder: Path) -> Path:
    return max(folder.glob("*.pt"))


def flip(folder: Path) -> None:
    content = bytearray(newest(folder).read_bytes())
    content[random.Random(0).randrange(len(content))] ^= 1
    newest(folder).write_bytes(content)


def lengthen(folder: Path) -> None:
    with newest(folder).open("ab") as file:
        file.write(b"\0")


def from_elsewhere(folder: Path) -> None:
    checkpoint.save(folder / "other", 2, state(2, "other"))
    for path in (folder / "other").glob("step-*"):
        path.replace(folder / path.name)


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (lambda folder: newest(folder).write_bytes(newest(folder).read_bytes()[:100]), r"has 100 bytes, \d+ were written"),
    (lambda folder: newest(folder).write_bytes(b""), r"has 0 bytes, \d+ were written"),
    (lengthen, r"has \d+ bytes, \d+ were written"),
    (flip, "holds other bytes than were written"),
    (from_elsewhere, "belongs to run other, this is run run"),
    (
        lambda folder: newest(folder).with_suffix(".json").unlink(),
        "has no step-000000002.json, so it may not have been",
    ),
    (
        lambda folder: newest(folder).with_suffix(".json").write_text('{"fing'),
        "has a step-000000002.json that cannot be",
    ),
    (lambda folder: newest(folder).with_suffix(".json").write_text("{}"), "has a step-000000002.json that cannot be"),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGES, ids=range(len(DAMAGES)))
def test_the_one_before_is_used(
    damage: Callable[[Path], object], reason: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(folder)
    with caplog.at_level(logging.WARNING):
        path = checkpoint.newest(folder, "run")
    assert path is not None and checkpoint.load(path)["step"] == 1
    [message] = caplog.messages
    assert message.startswith(f"{folder}/step-000000002.pt ")
    assert re.search(reason, message), message
    # Training goes on from there, and what was refused is replaced.
    checkpoint.save(folder, 2, state(2))
    path = checkpoint.newest(folder, "run")
    assert path is not None and checkpoint.load(path)["step"] == 2


def test_a_whole_one_comes_back_and_two_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert checkpoint.newest(tmp_path, "run") is None
    for step in (1, 2, 30):
        checkpoint.save(tmp_path, step, state(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"step-{step:09d}{suffix}" for step in (2, 30) for suffix in (".json", ".pt")
    ]
    path = checkpoint.newest(tmp_path, "run")
    assert path is not None
    found = checkpoint.load(path)
    assert found["step"] == 30 and found["task"]["w"].tolist() == [30.0, 30.0]
    assert json.loads(path.with_suffix(".json").read_text())["fingerprint"] == "run"
    assert not caplog.messages


def test_on_a_full_disk_the_last_ones_stay(small_disk: Path) -> None:
    for step in (1, 2):
        checkpoint.save(small_disk, step, state(step, size=400_000))
    before = {path.name: path.read_bytes() for path in small_disk.iterdir()}
    with pytest.raises((OSError, RuntimeError)) as raised:
        checkpoint.save(small_disk, 3, state(3, size=400_000))
    assert "free some space" in (disk_problem(raised.value) or str(raised.value))
    assert {path.name: path.read_bytes() for path in small_disk.iterdir()} == before
    path = checkpoint.newest(small_disk, "run")
    assert path is not None and checkpoint.load(path)["step"] == 2
