"""What tests/faults checks of some stages, of all of them, and at more moments."""

from pathlib import Path

import pytest

from tests.faults.checks import runs_under_a_stepping_clock, survives_a_full_disk, survives_kills
from tests.faults.conftest import Finished, Mount
from tests.faults.stages import STAGES
from tests.verify import random_kills


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", STAGES)
def test_a_stage_killed_thrice_at_random_moments_is_completed(
    finished: Finished, name: str, disk: Path, seed: int
) -> None:
    survives_kills(finished, name, disk, seed, kills=3)


# Of these two, all files together have less than one block.
@pytest.mark.parametrize("name", [name for name in STAGES if name not in ("look", "select")])
def test_a_full_disk_is_told_and_the_next_run_completes(finished: Finished, name: str, mount: Mount) -> None:
    survives_a_full_disk(finished, name, mount)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_does_not_care_for_a_stepping_clock(finished: Finished, name: str, disk: Path) -> None:
    runs_under_a_stepping_clock(finished, name, disk)


def test_the_default_run_killed_twenty_times_is_the_undisturbed_one(tmp_path: Path) -> None:
    random_kills.check(tmp_path, random_kills.sizes(None, None), kills=20, seed=0)
