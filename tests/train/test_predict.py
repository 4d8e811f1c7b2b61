"""A probe of this machine by the launcher's ranks, and what is kept of it; hours and energy against numbers worked by hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from caft.params import Params, load_params
from caft.train import predict

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The default's, with a storage of its own and no index."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAFT_STORAGE", str(tmp_path))
    return load_params(PROJECT / "params.yaml")


def write(params: Params, **table: object) -> None:
    path = predict._file(params)
    path.parent.mkdir()
    path.write_text(json.dumps(table))


def test_a_probe_is_scaled_to_the_samples_of_the_run(params: Params) -> None:
    """60,000 samples at 100 images/s are 600 s; at 0.3 J an image, 18 kJ."""
    write(params, images_per_s=100.0, slowest=80.0, fastest=120.0, joules_per_image=0.3, hours=99.0)
    found = predict.predicted(params)
    assert found is not None and found["hours"] == pytest.approx(600 / 3600, abs=1e-4)
    assert found["hours_low"] == pytest.approx(500 / 3600, abs=1e-4)
    assert found["hours_high"] == pytest.approx(750 / 3600, abs=1e-4)
    assert found["kwh"] == pytest.approx(18e3 / 3.6e6)
    longer = load_params(PROJECT / "params.yaml", [], ["train.samples=120000"])
    assert predict.predicted(longer)["hours"] == pytest.approx(1200 / 3600, abs=1e-4)  # type: ignore[index]
    assert predict.predicted(load_params(PROJECT / "params.yaml", [], ["train.batch=96"])) is None  # another step


def test_a_run_of_an_instant_has_a_plan(params: Params) -> None:
    """A step of 48 images at 10,000 images/s is 4.8 ms; at 0.3 J an image, 14.4 J, between 12 and 18 J."""
    instant = load_params(PROJECT / "params.yaml", [], ["train.samples=48", "train.warmup_steps=0"])
    cost = {"joules_per_image": 0.3, "peak_memory_mib": 9, "checkpoint_seconds": 0.1, "device": "CPU", "energy": "RAPL"}
    found = {"images_per_s": 1e4, "slowest": 8e3, "fastest": 1.2e4, "windows": 20, "cost": cost}
    lines = predict._lines({**predict._table(instant, found), "source": "a probe of 1 s"}, found)
    assert any("4e-06 kWh (3.33e-06 to 5e-06)" in line for line in lines), lines


def test_a_launchers_speed_predicts_where_nothing_was_measured(params: Params) -> None:
    assert predict.predicted(params) is None
    given = load_params(PROJECT / "params.yaml", [], ["launchers.local.images_per_s=50"])
    found = predict.predicted(given)
    assert found == {"source": "launchers.local.images_per_s", "images_per_s": 50, "hours": 0.3333}


def test_the_prediction_of_a_run_is_that_of_before_it(params: Params, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "stops.jsonl").write_text("{}\n")
    write(params, images_per_s=100.0)
    predict.keep(params, run)
    assert not (run / "predicted.json").exists()
    (run / "stops.jsonl").unlink()
    predict.keep(params, run)
    assert json.loads((run / "predicted.json").read_text())["images_per_s"] == 100


@pytest.mark.slow
def test_a_probe_trains_on_this_machine_and_leaves_its_prediction(params: Params, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipelines.train", "--dry-run", "--probe", "2", "--set", "train.batch=8"]
    environment = {"PYTHONPATH": str(PROJECT), "PATH": "", "CAFT_STORAGE": str(tmp_path)}
    command += ["--params", str(PROJECT / "params.yaml")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line)
    (file,) = (tmp_path / "probes").iterdir()  # the folder of the ranks is gone
    found = json.loads(file.read_text())
    assert (
        lines["probe"].startswith(f"{found['images_per_s']:,.1f} images/s (")
        and "on CPU, by a probe of 2 s" in lines["probe"]
    )
    assert found["slowest"] <= found["images_per_s"] <= found["fastest"]
    assert found["hours"] == pytest.approx(60000 / found["images_per_s"] / 3600, abs=1e-4)
    assert lines["memory"] == f"{found['peak_memory_mib']:,} MiB a rank at most"


@pytest.mark.parametrize("words", [["--probe", "0", "--dry-run"], ["--probe", "inf", "--dry-run"], ["--probe", "60"]])
def test_a_probe_without_time_or_without_dry_run_is_refused(words: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipelines.train", *words, "--params", str(PROJECT / "params.yaml")]
    environment = {"PYTHONPATH": str(PROJECT), "PATH": "", "CAFT_STORAGE": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "--probe" in done.stderr.splitlines()[-1]
