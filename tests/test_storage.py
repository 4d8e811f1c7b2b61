"""Where files lie, from the main checkout and from an experiment's copy, and that writes are atomic."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from caft import progress, storage
from caft.params import Params, load_params

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def params() -> Params:
    return load_params(PROJECT / "params.yaml")


def with_root(params: Params, root: str) -> Params:
    return params.model_copy(update={"storage": params.storage.model_copy(update={"root": root})})


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout whose sub-folder is the current one."""
    top = tmp_path / "checkout"
    (top / "deep").mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", top], check=True)
    monkeypatch.chdir(top / "deep")
    return top


def test_root_is_the_git_top_level(checkout: Path, params: Params) -> None:
    assert storage.root(params) == checkout


def test_dvc_root_wins_over_git_so_that_experiment_copies_share_the_images(
    checkout: Path, tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    assert storage.images_folder(params, "cc3m") == tmp_path / "main" / "images" / "cc3m"
    assert storage.runs_folder(params) == tmp_path / "main" / "runs"


def test_without_git_the_current_folder_is_the_checkout(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert storage.root(params) == tmp_path


def test_relative_root_is_taken_from_the_checkout_and_absolute_root_as_it_is(
    checkout: Path, tmp_path: Path, params: Params
) -> None:
    assert storage.root(with_root(params, "big/disk")) == checkout / "big" / "disk"
    assert storage.root(with_root(params, str(tmp_path / "disk"))) == tmp_path / "disk"


def test_environment_wins_over_the_setting(
    checkout: Path, tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAFT_STORAGE", str(tmp_path / "elsewhere"))
    assert storage.root(with_root(params, "big/disk")) == tmp_path / "elsewhere"


def test_tracking_is_sqlite_with_an_absolute_path_unless_a_server_is_named(checkout: Path, params: Params) -> None:
    assert storage.tracking_uri(params) == f"sqlite:////{str(checkout).lstrip('/')}/mlflow.db"
    assert storage.artifact_location(params) == f"file://{checkout}/mlartifacts"
    server = params.storage.model_copy(update={"tracking_uri": "http://127.0.0.1:5000"})
    assert storage.tracking_uri(params.model_copy(update={"storage": server})) == "http://127.0.0.1:5000"


def test_replacing_makes_parents_and_moves_a_file_into_place(tmp_path: Path) -> None:
    final = tmp_path / "new" / "table.csv"
    with storage.replacing(final) as temporary:
        temporary.write_text("a,b\n")
        assert not final.exists()
        assert temporary.parent == final.parent and temporary.suffix == ".csv"
    assert final.read_text() == "a,b\n"
    assert [path.name for path in final.parent.iterdir()] == ["table.csv"]


def test_replacing_swaps_a_folder_as_a_whole(tmp_path: Path) -> None:
    final = tmp_path / "index"
    final.mkdir()
    (final / "old").write_text("old")
    with storage.replacing(final) as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("new")
        assert (final / "old").exists()
    assert [path.name for path in final.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path, kind: str) -> None:
    final = tmp_path / "out"
    final.write_text("old") if kind == "file" else final.mkdir()
    with pytest.raises(ZeroDivisionError), storage.replacing(final) as temporary:
        temporary.write_text("half") if kind == "file" else temporary.mkdir()
        _ = 1 / 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert final.is_dir() if kind == "folder" else final.read_text() == "old"


def test_a_file_never_replaces_a_folder(tmp_path: Path) -> None:
    final = tmp_path / "out.json"
    final.mkdir()
    (final / "kept").write_text("a user's")
    with pytest.raises(IsADirectoryError, match=r"out\.json"):
        storage.write_json(final, {})
    assert (final / "kept").read_text() == "a user's"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_link_is_replaced_itself_and_what_it_leads_to_is_kept(tmp_path: Path, kind: str) -> None:
    """As `data/index` that somebody has moved to a larger disk, or a file that DVC has linked to its cache."""
    kept, final = tmp_path / "kept", tmp_path / "out"
    (kept / "old").mkdir(parents=True) if kind == "folder" else kept.write_text("old")
    final.symlink_to("kept")
    with storage.replacing(final) as temporary:
        (temporary / "new").mkdir(parents=True) if kind == "folder" else temporary.write_text("new")
    assert not final.is_symlink()
    if kind == "folder":
        assert [path.name for path in final.iterdir()] == ["new"] and [path.name for path in kept.iterdir()] == ["old"]
    else:
        assert (final.read_text(), kept.read_text()) == ("new", "old")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "out"]


def test_a_file_never_replaces_a_link_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "out.json").symlink_to("kept")
    with pytest.raises(IsADirectoryError, match=r"out\.json"):
        storage.write_json(tmp_path / "out.json", {})
    assert (tmp_path / "out.json").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "out.json"]


def test_a_link_that_a_killed_process_moved_aside_is_removed_and_its_folder_kept(tmp_path: Path) -> None:
    (tmp_path / "kept/old").mkdir(parents=True)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    left = tmp_path / f".tmp-{socket.gethostname()}-{process.pid}-0123abcd-previous.out.json"
    left.symlink_to("kept")
    storage.write_json(tmp_path / "out.json", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "out.json"]
    assert (tmp_path / "kept/old").is_dir()


def test_a_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError) as raised:
        storage.write_json(tmp_path / f"{'a' * 300}.json", {})
    assert "File name too long; give a shorter name" in (storage.disk_problem(raised.value) or "")


def test_a_kill_in_the_middle_of_a_write_leaves_the_old_file(tmp_path: Path) -> None:
    final = tmp_path / "out.json"
    storage.write_json(final, {"rows": 1})
    code = (
        "import sys, time\nfrom caft.storage import replacing\n"
        "with replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('{\"rows\"')\n    print('writing', flush=True)\n    time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, final], stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    assert child.stdout is not None and child.stdout.readline() == "writing\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert json.loads(final.read_text()) == {"rows": 1}


def test_json_keeps_order_and_refuses_what_json_cannot_say(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    storage.write_json(path, {"b": 1, "a": "é"})
    assert path.read_text(encoding="utf-8") == '{\n  "b": 1,\n  "a": "é"\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        storage.write_json(path, {"b": math.nan})
    assert json.loads(path.read_text()) == {"b": 1, "a": "é"}


def test_progress_writes_a_line_now_and_then_where_there_is_no_terminal(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 4.0, 12.0, 15.0])  # at the start, and after each item
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with caplog.at_level("INFO", logger="caft.progress"):
        assert list(progress.track(["a", "b", "c"], "shards")) == ["a", "b", "c"]
    assert [record.getMessage() for record in caplog.records] == ["shards: 2 of 3, 0.2/s"]
