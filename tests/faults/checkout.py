"""A git and DVC checkout of this project's files as they are, with settings of a test."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.faults.conftest import merge
from tests.faults.stages import PROJECT

# The stages' commands say `python`: the one that runs this.
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
DVC = [sys.executable, "-m", "dvc"]
LOOK, ALWAYS = "look", ["always changed"]


def make_checkout(folder: Path, settings: dict[str, Any]) -> Path:
    """Copies the files that git knows, or would, without results and lock."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, listed):
        results = name.split("/")[0] in ("metrics", "plots") or name.split("/")[-1] == "dvc.lock"
        if (PROJECT / name).is_file() and not results:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    content = yaml.safe_load((folder / "params.yaml").read_text())
    merge(content, settings)
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "A test's settings"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*DVC, *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)


def stages_run(output: str) -> list[str]:
    """Stages that a `dvc repro` has run, but for the one that looks at files and always runs."""
    ran = [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]
    return [name for name in ran if name != LOOK]


def would_run(folder: Path, *targets: str) -> set[str]:
    """Stages that `dvc status` names, but for that one."""
    done = dvc(folder, "status", "--json", *targets)
    assert done.returncode == 0, done.stderr
    named: dict[str, Any] = json.loads(done.stdout)
    assert named.pop(LOOK, ALWAYS) == ALWAYS, named
    return set(named)
