"""Ctrl-C at a stage's start, while it imports what it needs; later is in tests/faults and tests/slurm."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.portable.environment import without_arithmetic

PROJECT = Path(__file__).parents[1]


def test_ctrl_c_among_imports_leaves_no_trace_of_them(tmp_path: Path) -> None:
    """numpy, in its place, takes its time."""
    (tmp_path / "numpy.py").write_text(
        f"import time\nfrom pathlib import Path\nPath({str(tmp_path / 'begun')!r}).touch()\ntime.sleep(60)\n"
    )
    stage = subprocess.Popen(
        [sys.executable, "-m", "pipelines.train", "--dry-run"],
        cwd=PROJECT,
        env={**without_arithmetic(), "PYTHONPATH": f"{tmp_path}:{PROJECT}"},
        stderr=subprocess.PIPE,
        text=True,
        # As in a terminal: what a shell runs in the background ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert stage.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    stage.send_signal(signal.SIGINT)
    assert stage.communicate(timeout=30)[1] == ""
    assert stage.returncode == -signal.SIGINT
