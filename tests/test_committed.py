"""What `make repro` ends with: whether weights and metrics are those of the commit, and why not."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from caft.errors import DataError
from pipelines import committed

GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
CAFT, SFCN = (hashlib.sha256(content).hexdigest() for content in (b"caft", b"sfcn"))


def write(path: str, content: object) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A commit with metrics, settings and locks, and a model."""
    monkeypatch.chdir(tmp_path)
    for name in committed.METRICS:
        write(f"metrics/{name}.json", {"random": {"t2i_r1": 80.5, "pairs": 256}})
    write("metrics/train.json", {"images_per_s": 160.0, "weights": {"caft": CAFT, "sfcn": SFCN}})
    write("params.yaml", "seed: 0\n")
    write("requirements.lock", f"pytest=={pytest.__version__} \\\n    --hash=sha256:0\nabsent==1.0\n")
    write("requirements-cpu.lock", "torch==1.0.0 \\\n")
    write("models/caft.json", {"arithmetic": "portable"})
    for name in ("caft", "sfcn"):
        write(f"models/{name}.safetensors", name)
    write(".gitignore", "models")
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "Results"]):
        subprocess.run([*GIT, *command], check=True)
    return tmp_path


def test_all_is_as_committed_but_for_speeds(checkout: Path) -> None:
    weights = {"caft": CAFT, "sfcn": SFCN}
    write(
        "metrics/train.json",
        {"images_per_s": 99.0, "cost": {"starts": 2}, "settings_digest": "another", "weights": weights},
    )
    assert list(committed.lines()) == [
        f"weights:     models/caft.safetensors {CAFT} as committed",
        f"weights:     models/sfcn.safetensors {SFCN} as committed",
        "metrics:     as committed",
    ]


def test_what_differs_is_shown_with_the_reasons(checkout: Path) -> None:
    write("models/caft.safetensors", "other")
    other = hashlib.sha256(b"other").hexdigest()
    write("caft/new.py", "")
    write("metrics/retrieval.json", {"random": {"t2i_r1": 79.5, "pairs": 256}})
    write("params.yaml", "seed: 1\n")
    write("models/caft.json", {"arithmetic": "native"})
    import torch

    assert list(committed.lines()) == [
        f"weights:     models/caft.safetensors {other}",
        f"weights:     models/sfcn.safetensors {SFCN} as committed",
        "metrics:     2 of 14 values are not as committed:",
        "             retrieval.random.t2i_r1 79.5, committed 80.5",
        "             changed since the commit: params.yaml, caft/",
        "             arithmetic is native: each kind of processor rounds in its own way",
        f"             other versions than the lock's: torch {torch.__version__.partition('+')[0]} for 1.0.0",
    ]


def test_a_difference_without_a_reason_says_so(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("requirements-cpu.lock", "")
    write("metrics/regions.json", {"random": {"t2i_r1": 80.0, "pairs": 256}})
    assert list(committed.lines())[-1] == "             no reason is known: please report it, with the processor's name"


def test_metrics_that_were_never_committed(checkout: Path) -> None:
    subprocess.run([*GIT, "rm", "-r", "--quiet", "--cached", "metrics"], check=True)
    subprocess.run([*GIT, "commit", "--quiet", "--message", "None"], check=True)
    first, _, last = committed.lines()
    assert first == f"weights:     models/caft.safetensors {CAFT}"
    assert last == "metrics:     this commit has none to compare with"


def test_what_is_missing_is_one_error(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    Path("models/sfcn.safetensors").unlink()
    with pytest.raises(DataError, match=r"models/sfcn.safetensors: not found; run `dvc repro`"):
        list(committed.lines())
    Path("metrics/regions.json").unlink()
    with pytest.raises(DataError, match=r"metrics/regions.json: not found; run `dvc repro`"):
        list(committed.lines())
    command = [sys.executable, "-m", "pipelines.committed"]
    environment = {"PYTHONPATH": str(Path(committed.__file__).parents[1]), "PATH": "/usr/bin:/bin"}
    bare = tmp_path_factory.mktemp("bare")
    done = subprocess.run(command, cwd=bare, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr == "error: metrics/data.json: not found; run `dvc repro`\n"
