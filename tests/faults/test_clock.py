"""A wall clock that steps by an hour both ways, in a stage and in every Python process that it starts."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from caft.params import load_params
from caft.storage import tracking_uri
from caft.train.tracking.runs import open_run
from tests.faults import stages
from tests.faults.checks import runs_under_a_stepping_clock
from tests.faults.conftest import Finished

pytestmark = pytest.mark.slow


def test_the_clock_steps_both_ways() -> None:
    step = "round((time.time() - time.clock_gettime(time.CLOCK_REALTIME)) / 3600)"
    code = f"import time; print(*{{{step} for _ in range(40) if not time.sleep(0.05)}})"
    environment = {**os.environ, "PYTHONPATH": str(stages.CLOCK.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert sorted(map(int, done.stdout.split())) == [-1, 0, 1]


def test_fetching_does_not_care(finished: Finished, disk: Path) -> None:
    runs_under_a_stepping_clock(finished, "fetch", disk)


def test_a_score_is_replaced_by_a_later_one_of_an_earlier_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tracker keeps the value of the latest time; ours must be the one logged last."""
    monkeypatch.setenv("CAFT_STORAGE", str(tmp_path))
    params = load_params("params.yaml")
    run = open_run(params, "clock", "clock", {}, {})
    run.log_scores("retrieval", {"random": {"t2i_r1": 41.0}})
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    run.log_scores("retrieval", {"random": {"t2i_r1": 42.0}})
    run.finish()
    found = MlflowClient(tracking_uri(params)).get_run(run.run_id)
    assert found.data.metrics == {"retrieval/random/t2i_r1": 42.0}
    assert found.info.status == "FINISHED"
