"""The benchmark for a GPU, tried on the CPU: every part, on a machine that has the library's own dependencies alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu

PROJECT = Path(__file__).parents[2]
# What the stages of the pipeline and the tests have on top.
_MORE = (
    "dvc", "duckdb", "img2dataset", "matplotlib", "mlflow", "pandas", "pyarrow", "pytest", "ray", "scipy", "skimage", "spacy",
    "submitit", "tqdm", "webdataset",
)  # fmt: skip
_BARE = f"""
from importlib.machinery import PathFinder

found = PathFinder.find_spec

def find(name, path=None, target=None):
    return None if name.partition(".")[0] in {_MORE!r} else found(name, path, target)

PathFinder.find_spec = staticmethod(find)
"""


@pytest.mark.slow
@pytest.mark.verify
def test_every_part_runs_on_a_bare_machine(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(_BARE)
    out = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device=cpu", "--model=tiny", "--batch=4", "--quick"]
    command += ["--workers=1", f"--parts={','.join(gpu.PARTS)}", "--seconds=800", f"--out={out}"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    bare = subprocess.run([sys.executable, "-c", "import pytest"], env=environment, capture_output=True, text=True)
    assert "No module named 'pytest'" in bare.stderr
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(out.read_text())
    assert found["parts"].keys() == gpu.PARTS.keys()
    assert not any("error" in part for part in found["parts"].values())
    checks = found["parts"]["checks"]
    assert all(one["passed"] for name, each in checks.items() if name != "seconds" for one in each.values())
    assert found["parts"]["curve"]["curve"]["largest_difference"] < 1e-3
    shares = [one["share"] for one in found["parts"]["profile"]["profile"]["components"].values()]
    assert sum(shares) == pytest.approx(1)
    for line in ("| eager |", "| compiled |", "| flair |", "| loading |", "| text |", "| stem, compiled |"):
        assert line in done.stdout


def test_a_part_that_fails_or_takes_too_long_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(PROJECT)
    monkeypatch.setitem(gpu.PARTS, "checks", 0.4)
    out = tmp_path / "found.json"
    arguments = ["--device=cpu", "--model=tiny", "--batch=4", "--quick", "--parts=checks,card", f"--out={out}"]
    with pytest.raises(SystemExit, match="1"):
        gpu.main(arguments)
    parts = json.loads(out.read_text())["parts"]
    assert parts["checks"]["error"] == "took longer than 2 s" and "error" not in parts["card"]
    assert list(tmp_path.iterdir()) == [out]


def test_what_is_not_there_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    for arguments, message in (
        (["--device=cpu", "--model=bass"], "--model bass: no such key in models; did you mean base?"),
        (["--device=cpu", "--parts=card,sped"], "--parts sped: no such part; did you mean speed?"),
        (["--device=cpu", "--batch=0"], "--batch 0: must be at least 1"),
    ):
        with pytest.raises(SystemExit, match="2"):
            gpu.main(arguments)
        assert message in capsys.readouterr().err
