"""Two `dvc repro` at once, and two copies of an experiment that share a storage root."""

import subprocess
from pathlib import Path

import pytest

from tests.faults import stages
from tests.faults.checkout import DVC, ENVIRONMENT, make_checkout, stages_run, would_run
from tests.faults.checks import is_whole
from tests.faults.conftest import Finished
from tests.ports import free_port

pytestmark = pytest.mark.slow


def test_of_two_repros_at_once_one_works_and_the_other_waits_or_is_refused(tmp_path: Path) -> None:
    settings = {"corpus": {"scenes": {"port": free_port(), "images": 1000, "evaluation_images": 8, "regions": 4}}}
    folder = make_checkout(tmp_path / "caft", settings)
    command = [*DVC, "repro", "source@scenes"]
    both = [
        subprocess.Popen(
            command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(2)
    ]
    ends = [(process.communicate(timeout=800)[0], process.returncode) for process in both]
    assert 0 in [code for _, code in ends], ends
    for output, code in ends:
        assert code == 0 or ("Traceback" not in output and ("busy" in output or "lock" in output)), output
    assert sum(len(stages_run(output)) for output, code in ends if code == 0) == 1
    assert would_run(folder, "source@scenes") == set()
    assert not stages.leftovers(folder)


def test_copies_that_split_the_same_captions_take_turns(finished: Finished, disk: Path, tmp_path: Path) -> None:
    """As two experiments in copies do: folders of their own, one storage root."""
    first = finished.before("sentences", disk)
    second = finished.before("sentences", tmp_path / "other")
    begun = [stages.Stage("sentences", place, environment={"CAFT_STORAGE": str(first)}) for place in (first, second)]
    for stage, place in zip(begun, (first, second), strict=True):
        done = stage.wait()
        assert done.code == 0, done.log
        is_whole(finished, place, "sentences")
