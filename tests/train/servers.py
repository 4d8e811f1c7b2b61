"""A real tracking server of MLflow, as a process of its own that a test may stop and start again."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port


def start_server(folder: Path, port: int, *options: str) -> subprocess.Popen[bytes]:
    """Starts a server whose runs lie in a folder, and waits until it answers."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    command += options
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, cwd=folder, env=dict(os.environ)
        )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + 600
    while True:
        try:
            opener.open(f"http://127.0.0.1:{port}/health", timeout=2).close()
            return server
        except OSError:
            assert server.poll() is None and time.monotonic() < end, (folder / "server.log").read_text()[-3000:]
            time.sleep(0.2)


def stop_server(server: subprocess.Popen[bytes]) -> None:
    """Kills it with its workers."""
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@contextmanager
def mlflow_server(folder: Path, *options: str) -> Iterator[int]:
    """Gives the port of a server that runs during the block."""
    port = free_port()
    server = start_server(folder, port, *options)
    try:
        yield port
    finally:
        stop_server(server)
