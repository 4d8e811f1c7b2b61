"""The lowest and the newest versions that pyproject.toml allows, each in an environment of its own: some hours, 10 GB each."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12")
# Uses the library as its dependencies alone allow.
CORE = """
from pathlib import Path
import numpy as np, caft, torch
from PIL import Image
from caft.model.card import ModelCard
from caft.network.caft import CAFT
from caft.params import load_params
from caft.weights.files import save_model
sizes = load_params("params.yaml").models["tiny"]
card = ModelCard(splitter="dreamlip", chunks=4, balanced_rule="paper", model=sizes, fingerprint="0" * 16)
save_model(CAFT(sizes, chunks=4), Path("model.safetensors"), card)
model = caft.load("model.safetensors")
noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
assert model.similarity([noise], ["A red box. A blue ball."]).shape == (1, 1)
assert model.ground(noise, "A red box. A blue ball.").shape == (2, 40, 60)
"""


@pytest.fixture(scope="module")
def uv(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The resolver; pip itself has no lowest versions."""
    folder = tmp_path_factory.mktemp("uv")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin/python", "-m", "pip", "install", "--quiet", "uv"], check=True)
    return str(folder / "bin/uv")


@pytest.fixture
def environment(uv: str, tmp_path: Path) -> Callable[[str, str, list[str]], Path]:
    """Makes an environment of a Python, with the versions of a rule, and gives its programs' folder."""

    def make(python: str, rule: str, extras: list[str]) -> Path:
        if shutil.which(f"python{python}") is None:
            pytest.skip(f"python{python} is not installed")
        chosen, folder = tmp_path / "chosen.txt", tmp_path / "environment"
        wanted = [word for extra in extras for word in ("--extra", extra)]
        resolve = ["pip", "compile", "--quiet", "--python-version", python, "--resolution", rule, *wanted]
        subprocess.run([uv, *resolve, PROJECT / "pyproject.toml", "-o", chosen], check=True)
        print(chosen.read_text())
        subprocess.run([f"python{python}", "-m", "venv", folder], check=True)
        install = [uv, "pip", "install", "--quiet", "--no-deps", "--python", folder / "bin/python"]
        subprocess.run([*install, "-r", chosen, "setuptools>=77"], check=True)
        subprocess.run([*install, "--no-build-isolation", "-e", PROJECT], check=True)
        return folder / "bin"

    return make


@pytest.mark.parametrize("rule", ["lowest-direct", "highest"])
@pytest.mark.parametrize("python", PYTHONS)
def test_the_library_works(
    environment: Callable[[str, str, list[str]], Path], python: str, rule: str, tmp_path: Path
) -> None:
    programs = environment(python, rule, [])
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    subprocess.run([programs / "python", "-c", CORE], cwd=tmp_path, check=True)


@pytest.mark.parametrize("rule", ["lowest-direct", "highest"])
@pytest.mark.parametrize("python", PYTHONS)
def test_the_fast_part_of_the_suite_passes(
    environment: Callable[[str, str, list[str]], Path], python: str, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = environment(python, rule, ["pipeline", "dev"])
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    fast = ["-m", "pytest", "-q", "-n", "3", "-m", "not slow", "--ignore", "tests/test_setup.py"]
    subprocess.run([programs / "python", *fast], cwd=PROJECT, check=True)
