"""Ctrl-C while a command still imports its libraries: one line and 130, as at any other time."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
COMMANDS = (
    ["pipelines.train", "--dry-run"],
    ["pipelines.report"],
    ["pipelines.sets", "--check"],
    ["caft", "info", "absent.safetensors"],
)


def started(arguments: list[str], before: Callable[[], object]) -> subprocess.Popen[str]:
    """A command that says on standard error what it has imported."""
    environment = {name: value for name, value in os.environ.items() if name != "CAFT_ARITHMETIC"}  # a child's
    return subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", *arguments], cwd=PROJECT, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before,
    )  # fmt: skip


def interrupted(process: subprocess.Popen[str], module: str) -> list[str]:
    """Sends Ctrl-C when a module has been imported; returns what is said after that, without imports."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.rpartition("|")[2].strip() == module:
            break
    else:
        pytest.fail(f"{module} was never imported")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    return [line for line in errors.splitlines() if not line.startswith("import time:")]


@pytest.mark.parametrize("module", ["pydantic", "late"])  # the first is imported for a stage's settings
@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_an_interruption_while_libraries_are_imported_is_one_line(arguments: list[str], module: str) -> None:
    process = started(arguments, lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    late = "numpy" if arguments[0] == "pipelines.sets" else "torch.types"  # which needs no torch
    assert interrupted(process, late if module == "late" else module) == ["interrupted"]
    assert process.returncode == 130


@pytest.mark.parametrize("arguments", [COMMANDS[2], COMMANDS[3]], ids=lambda arguments: arguments[0])
def test_who_ignores_it_goes_on_ignoring_it(arguments: list[str]) -> None:
    """A shell starts what a script puts in the background so."""
    process = started(arguments, lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert "interrupted" not in interrupted(process, "pydantic")
    assert process.returncode in (0, 2)
