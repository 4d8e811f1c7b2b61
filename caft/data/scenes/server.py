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
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from caft.data import loopback
from caft.data.scenes.grammar import PIXELS, TRAIN, generator, training_scene
from caft.data.scenes.render import jpeg, render
from caft.errors import LaunchError
from caft.locking import end_with

HOST = "127.0.0.1"
PICTURE = re.compile(r"/(train|missing|server_error|stalled|corrupt|opt_out)/(\d{1,9})\.jpg")
ERRORS = {"missing": 404, "server_error": 500}
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
    """Serves the pictures of a corpus, `side` pixels square, while the block runs, from a process of its own.

    Raises:
        LaunchError: The port is taken, or the server ends before it answers.
    """
    loopback.spare()
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
    deadline, said = time.monotonic() + START_SECONDS, ""
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://{HOST}:{port}{READY}", timeout=1).close()
            return
        except (urllib.error.URLError, OSError) as error:
            said = str(error)
            time.sleep(0.05)
    if process.poll() is None:
        state = f"gave no answer within {START_SECONDS:.0f} seconds of its start ({said}); look what else uses the port"
    else:
        state = f"ended with code {process.returncode}; its own message is above"
    raise LaunchError(f"the picture server on {HOST}:{port} {state}")


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
        match = PICTURE.fullmatch(self.path)
        kind = match[1] if match else "missing"
        if match is None and self.path == READY:
            content = b""
        elif match is None or kind in ERRORS:
            self.send_error(ERRORS[kind])
            return
        else:
            content = picture(self.seed, int(match[2]), self.side)
        if kind == "corrupt":
            content = content[:CORRUPT_BYTES]
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(content)))
        if kind == "opt_out":
            self.send_header("X-Robots-Tag", "noai")
        self.end_headers()
        if kind == "stalled":
            time.sleep(STALL_SECONDS)
        else:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: thousands of requests are no news."""


def main() -> None:
    """Serves on the socket that the parent has opened; arguments: socket, parent, seed, side."""
    descriptor, parent, _Handler.seed, _Handler.side = map(int, sys.argv[1:])
    end_with(parent)
    server = ThreadingHTTPServer((HOST, 0), _Handler, bind_and_activate=False)
    server.daemon_threads = True
    server.socket.close()
    server.socket = socket.socket(fileno=descriptor)
    server.serve_forever()


if __name__ == "__main__":
    main()
