"""What a run is named by, what a rank really imports, and what is told of changes."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from caft import digests
from caft.digests import NO_RESULT
from caft.errors import CheckpointError
from caft.locking import locked
from caft.train import inputs, seal
from caft.train.inputs import Inputs, files_of
from pipelines.deps import PLUMBING
from tests.test_structure import covers

PROJECT = Path(__file__).parents[2]
# What submitit starts: a rank of a job as the stage submits it, on this machine. It writes down which files of ours it has.
RANK = """
import sys
from pathlib import Path
from slurm import submit
from slurm.rank import Interruptible
from tests.train.ranks import Files
from caft.params import load_params

folder = Path(sys.argv[1])
submit.run(Interruptible(Files(folder / "files")), load_params("params.yaml").launchers["local"], folder)
"""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "index").mkdir()
    for name in ("index.json", "tokens.npy"):
        (tmp_path / "index" / name).write_text(name)
    for name in ("excluded.npy", "sfcn.safetensors"):
        (tmp_path / name).write_text(name)
    return files_of(tmp_path / "index", tmp_path / "excluded.npy", tmp_path / "sfcn.safetensors")


SETTINGS = {"seed": 0, "ranks": 2, "recipe": {"betas": (0.9, 0.98), "batch": 8}}


def test_each_file_of_data_is_in_the_name_by_its_content(files: dict[str, Path]) -> None:
    before = Inputs.read(SETTINGS, files)
    assert list(files) == [
        "data/index/index.json",
        "data/index/tokens.npy",
        "data/excluded.npy",
        "models/sfcn.safetensors",
    ]
    for name, path in files.items():
        content = path.read_text()
        os.utime(path, (1, 1))
        assert Inputs.read(SETTINGS, files).name == before.name
        path.write_text(content.upper())
        changed = Inputs.read(SETTINGS, files)
        assert changed.name != before.name and changed.differences(before) == [name]
        assert (changed.alike == before.alike) == (name == "models/sfcn.safetensors")
        path.write_text(content)
    other = Inputs.read({**SETTINGS, "ranks": 1, "seed": 3}, files)
    assert other.differences(before) == ["seed 0 -> 3", "ranks 2 -> 1"]


def test_a_job_is_told_what_changed_since_it_was_submitted(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = Inputs.read(SETTINGS, files)
    assert inputs.changes(submitted, files) is None
    for path in files.values():  # written anew with what they held
        os.utime(path)
    assert inputs.changes(submitted, files) is None
    files["data/index/tokens.npy"].write_text("TOKENS.NPY")
    files["data/excluded.npy"].unlink()
    found = inputs.changes(submitted, files)
    assert found and "data/index/tokens.npy, data/excluded.npy changed since the job was submitted" in found
    with pytest.raises(CheckpointError, match=f"run {submitted.name}: "):
        inputs.check(found)
    os.utime(tmp_path / "index/index.json", (1, 1))  # another file of the same size and time in the place of one
    submitted = Inputs.read(SETTINGS, files)
    (tmp_path / "other").write_text("INDEX.JSON")
    os.utime(tmp_path / "other", (1, 1))
    (tmp_path / "other").replace(files["data/index/index.json"])
    assert "data/index/index.json changed since" in str(inputs.changes(submitted, files))
    inputs.check(None)


def test_a_changed_line_of_the_trainer_is_named(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    submitted = Inputs.read(SETTINGS, files)
    known = digests._code
    edited = Path("caft/train/trainer.py")
    monkeypatch.setattr(
        digests, "_code", lambda path: known(path)._replace(meaning="x") if path == edited else known(path)
    )
    found = inputs.changes(submitted, files)
    assert found and f"{edited} changed since the job was submitted" in found


def test_a_runs_folder_gives_back_what_it_was_named_by(files: dict[str, Path], tmp_path: Path) -> None:
    read = Inputs.read(SETTINGS, files)
    read.write(tmp_path / "run")
    again = Inputs.of_run(tmp_path / "run")
    assert again and again.name == read.name and not read.differences(again)
    (tmp_path / "run/inputs.json").write_text("{")
    assert Inputs.of_run(tmp_path / "run") is None and Inputs.of_run(tmp_path) is None


@pytest.fixture
def begun(files: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """Makes the folder of a run that was begun, of the corpus `scenes`."""

    def make(name: str, corpora: tuple[str, ...] = ("scenes",), **settings: object) -> Path:
        read = Inputs.read({**SETTINGS, **settings}, files)
        dataclasses.replace(read, corpora=corpora).write(tmp_path / "runs" / name)
        (tmp_path / "runs" / name / "checkpoints").mkdir()
        (tmp_path / "runs" / name / "checkpoints/step-000000010.pt").touch()
        return tmp_path / "runs" / name

    return make


def test_a_run_that_a_change_left_behind_is_told_once(begun: Callable[..., Path], files: dict[str, Path]) -> None:
    runs = begun("a" * 16, ranks=1).parent
    mine = dataclasses.replace(Inputs.read(SETTINGS, files), corpora=("scenes",))
    begun(mine.name)
    begun("e" * 16, ranks=8)
    (runs / ("e" * 16) / "final.safetensors").touch()
    assert list(inputs.left(runs, mine, lambda folder: False)) == [
        f"run {'a' * 16} was begun and is left at step 10, since this is another: ranks 1 -> 2. "
        "With what it had, it goes on"
    ]
    assert not list(inputs.left(runs, mine, lambda folder: False))


def test_a_run_of_another_seed_model_or_corpora_is_not_left(
    begun: Callable[..., Path], files: dict[str, Path], tmp_path: Path
) -> None:
    begun("a" * 16, seed=1)
    begun("b" * 16, model={"width": 8})
    begun("c" * 16, corpora=("scenes", "cc3m"), ranks=1)
    mine = dataclasses.replace(Inputs.read(SETTINGS, files), corpora=("scenes",))
    assert not list(inputs.left(tmp_path / "runs", mine, lambda folder: False))
    assert not list((tmp_path / "runs").glob("*/told"))


def test_a_run_that_is_under_way_is_told_only_when_it_is_left(
    begun: Callable[..., Path], files: dict[str, Path]
) -> None:
    folder = begun("a" * 16, ranks=1)
    mine = Inputs.read(SETTINGS, files)
    for held in (folder, folder / "checkpoints"):
        with locked(held, "training this run"):
            assert not list(inputs.left(folder.parent, mine, lambda other: False))
    assert not list(inputs.left(folder.parent, mine, lambda other: other == folder))  # its job waits
    assert len(list(inputs.left(folder.parent, mine, lambda other: False))) == 1


def test_a_folder_that_cannot_be_written_ends_no_training(begun: Callable[..., Path], files: dict[str, Path]) -> None:
    folder = begun("a" * 16, ranks=1)
    (folder / "told").symlink_to(folder / "gone/told")
    begun("b" * 16, ranks=1)
    found = list(inputs.left(folder.parent, Inputs.read(SETTINGS, files), lambda other: False))
    assert [sentence.split()[1] for sentence in found] == ["b" * 16]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_text("other"), "holds other bytes"),
        (lambda path: path.write_text("longer than"), "has 11 bytes, 5 were written"),
        (lambda path: path.unlink(), "is not there"),
        (lambda path: path.with_name("file.seal").unlink(), "has no whole file.seal"),
        (lambda path: path.with_name("file.seal").write_text("{"), "has no whole file.seal"),
    ],
)
def test_a_seal_tells_what_is_wrong(spoil, words, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "file"
    path.write_text("bytes")
    seal.put(path)
    assert seal.fault(path) is None
    spoil(path)
    assert words in str(seal.fault(path))


@pytest.mark.slow
def test_every_file_of_ours_that_a_real_rank_imports_is_in_the_name_or_changes_no_result(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RANK, str(tmp_path)], cwd=PROJECT, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stderr[-3000:]
    imported = {Path(name) for name in json.loads((tmp_path / "files").read_text())}
    assert {Path("caft/train/job.py"), Path("slurm/rank.py"), Path("caft/train/distributed.py")} <= imported
    named = {Path(path) for path in Inputs.read({}, {}).code}
    free = {**NO_RESULT, **PLUMBING}
    plain = {path for path in imported if digests.has_code(path)}
    assert not {str(path) for path in plain - named if not covers(free, path)}
    # What only the user's names bring in (caft/__init__.py) is not run by a job; DVC lists the rest of what is named.
    deps = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]["train"]["deps"]
    assert not [str(path) for path in named if not covers(deps, path)]
