"""Stages killed in the middle: nothing half made is left, and the next run completes what is there."""

from pathlib import Path

import pytest

from tests.faults.checks import survives_kills
from tests.faults.conftest import Finished

pytestmark = pytest.mark.slow


# Of the others, training is in test_train.py, and evaluation in tests/verify.
@pytest.mark.parametrize("name", ["look", "source", "fetch", "captions", "sentences", "select", "index", "superpixels"])
def test_a_stage_killed_at_a_random_moment_is_completed_by_the_next_run(
    finished: Finished, name: str, disk: Path
) -> None:
    survives_kills(finished, name, disk, seed=0, kills=1)
