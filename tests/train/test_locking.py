"""Locks between processes, and processes that end with another one."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from caft.errors import LaunchError
from caft.locking import is_locked, locked

HOLD = """
import sys, time
from pathlib import Path
from caft.locking import locked
with locked(Path(sys.argv[1]), "training this run"):
    print("held", flush=True)
    time.sleep(600)
"""
WATCH = """
import sys, time
from caft.locking import end_with
end_with(int(sys.argv[1]))
print("watching", flush=True)
time.sleep(600)
"""


def started(script: str, argument: object) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", script, str(argument)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def test_another_process_is_named_and_its_lock_ends_with_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    holder = started(HOLD, tmp_path)
    try:
        with pytest.raises(LaunchError, match=rf"process {holder.pid} on \S+ is training this run; wait for it or end"):
            with locked(tmp_path, "training this run", patience=0):
                pass
        assert not caplog.records and is_locked(tmp_path)
        with caplog.at_level(logging.WARNING), pytest.raises(LaunchError, match=f"process {holder.pid} on"):
            with locked(tmp_path, "training this run", patience=0.5):
                pass
        [waited] = [record.getMessage() for record in caplog.records]
        assert f"process {holder.pid} on" in waited and waited.endswith("waiting for it to end")
        with locked(tmp_path, "another one", patience=0, name=".other.lock"):
            pass
    finally:
        holder.kill()
        holder.wait()
    assert not is_locked(tmp_path) and not is_locked(tmp_path / "none") and not (tmp_path / "none").exists()
    with locked(tmp_path, "training this run", patience=0):
        assert (tmp_path / ".lock-holder").read_text().startswith(f"process {os.getpid()} on ")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", ".other.lock"]


def test_a_stopped_process_is_called_that(tmp_path: Path) -> None:
    holder = started(HOLD, tmp_path)
    try:
        holder.send_signal(signal.SIGSTOP)
        words = rf"process {holder.pid} on \S+, which was stopped \(Ctrl-Z\?\) and goes on by `kill -CONT {holder.pid}`, is tr"
        with pytest.raises(LaunchError, match=words):
            with locked(tmp_path, "training this run", patience=0.5):
                pass
    finally:
        holder.kill()
        holder.wait()


def test_a_process_ends_with_another_one_whose_exit_code_nobody_has_collected() -> None:
    launcher = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    watcher = started(WATCH, launcher.pid)
    try:
        time.sleep(0.5)
        assert watcher.poll() is None
        launcher.send_signal(signal.SIGKILL)
        assert watcher.wait(10) == 1
        assert psutil.Process(launcher.pid).status() == psutil.STATUS_ZOMBIE
    finally:
        for process in (launcher, watcher):
            process.kill()
            process.wait()


def test_a_process_ends_at_once_if_the_other_one_is_gone() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    watcher = subprocess.run([sys.executable, "-c", WATCH, str(gone.pid)], timeout=60, check=False)
    assert watcher.returncode == 1
