"""A server on the loopback interface that renders each picture when it is asked for.

It misbehaves where the address says so, as the open web does. No picture is stored: each follows
from the seed and its number, so a lost shard can be fetched again at any time.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

from caft.data.scenes.grammar import PIXELS, TRAIN, generator, training_scene
from caft.data.scenes.render import jpeg, render
from caft.errors import LaunchError

HOST = "127.0.0.1"
PICTURE = re.compile(r"/(train|missing|server_error|stalled|corrupt|opt_out)/(\d{1,9})\.jpg")
READY = "/ready"

START_SECONDS = 60.0
STOP_SECONDS = 5.0
STALL_SECONDS = 20.0  # longer than any sensible client waits
# Some decoders fill up a picture that ends early; cut inside the header, none can.
CORRUPT_BYTES = 128


def picture(seed: int, number: int, side: int) -> bytes:
    """Returns training picture `number` of a corpus as JPEG, `side` pixels square."""
    rng = generator(seed, TRAIN, number, PIXELS)
    return jpeg(render(training_scene(seed, number), rng, side).image)


@contextmanager
def serving(port: int, seed: int, side: int) -> Iterator[None]:
    """Serves the pictures of a corpus while the block runs, from a process of its own.

    Args:
        port: Port on 127.0.0.1.
        seed: ``corpus.scenes.seed``.
        side: Of the pictures, in pixels.

    Raises:
        LaunchError: The port is taken, or the server ends before it answers.
    """
    with _listening(port) as listener:
        # The child gets the socket that listens already: nobody else can take the port in between.
        numbers = (listener.fileno(), os.getpid(), seed, side)
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, *map(str, numbers)],
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            cwd=Path(__file__).parents[3],  # where `caft` can be imported from, wherever we are
            start_new_session=True,
        )
    try:
        _wait_until_ready(port, process)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listening(port: int) -> socket.socket:
    listener = socket.socket()
    # Connections of an earlier server that still fade away do not count as taken.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(256)
    except OSError as error:
        listener.close()
        raise LaunchError(
            f"corpus.scenes.port = {port}: cannot listen on {HOST}:{port} ({error.strerror}); "
            "end the program that uses the port (another fetch of the scenes?), or set another port in params.yaml"
        ) from error
    return listener


def _wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://{HOST}:{port}{READY}", timeout=1).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    state = "gave no answer" if process.poll() is None else f"ended with code {process.returncode}"
    raise LaunchError(
        f"the picture server on {HOST}:{port} {state} within {START_SECONDS:.0f} seconds of its start; "
        "its own message is above"
    )


class _Handler(BaseHTTPRequestHandler):
    """Answers with the picture or the fault that an address names."""

    seed: int
    side: int

    def do_GET(self) -> None:  # noqa: D102, N802 (the name is the base class's)
        try:
            self._answer()
        except ConnectionError:
            pass  # the client gave up waiting

    def _answer(self) -> None:
        if self.path == READY:
            self._send(b"", {})
            return
        match = PICTURE.fullmatch(self.path)
        if match is None or match[1] == "missing":
            self.send_error(404)
            return
        fault = match[1]
        if fault == "server_error":
            self.send_error(500)
            return
        content = picture(self.seed, int(match[2]), self.side)
        if fault == "stalled":
            self._send_head(len(content), {})
            time.sleep(STALL_SECONDS)
        elif fault == "corrupt":
            self._send(content[:CORRUPT_BYTES], {})
        elif fault == "opt_out":
            self._send(content, {"X-Robots-Tag": "noai"})
        else:
            self._send(content, {})

    def _send(self, content: bytes, headers: dict[str, str]) -> None:
        self._send_head(len(content), headers)
        self.wfile.write(content)

    def _send_head(self, length: int, headers: dict[str, str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: thousands of requests are no news."""


def _end_with(parent: int) -> None:
    """Ends this process when its parent has ended, however that ended."""
    with suppress(psutil.NoSuchProcess):
        psutil.Process(parent).wait()
    os._exit(0)


def main() -> None:
    """Serves on the socket that the parent has opened; arguments: socket, parent, seed, side."""
    descriptor, parent, _Handler.seed, _Handler.side = map(int, sys.argv[1:])
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    server = ThreadingHTTPServer((HOST, 0), _Handler, bind_and_activate=False)
    server.daemon_threads = True
    server.socket.close()
    server.socket = socket.socket(fileno=descriptor)
    server.serve_forever()


if __name__ == "__main__":
    main()
