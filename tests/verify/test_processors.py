"""Fifty steps, and all else that is computed, on this processor and on two that are emulated: ten minutes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.portable.test_processors import Computed, compute, differences, emulated


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Computed:
    return compute(tmp_path_factory.mktemp("portable") / "here", [], "portable", "50")


@pytest.mark.parametrize("processor", ["Haswell", "EPYC-Rome"])
def test_fifty_steps(here: Computed, tmp_path: Path, require_system: Callable[[str], str], processor: str) -> None:
    there = compute(tmp_path / processor, emulated(require_system, processor), "portable", "50")
    assert differences(here, there) == []
