"""The picture server over real HTTP: each fault as promised, and no process left behind."""

import http.client
import io
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caft.data.scenes.corpus import url
from caft.data.scenes.server import picture, serving
from caft.errors import LaunchError
from tests.ports import free_port

SEED, SIDE = 5, 64


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    port = free_port()
    with serving(port, SEED, SIDE):
        yield port


def get(port: int, kind: str, number: int, timeout: float = 10) -> tuple[bytes, http.client.HTTPMessage]:
    with urllib.request.urlopen(url(port, kind, number), timeout=timeout) as answer:
        return answer.read(), answer.headers


def test_a_working_link_gives_the_rendered_picture(port: int) -> None:
    content, headers = get(port, "train", 12)
    assert headers["Content-Type"] == "image/jpeg" and "X-Robots-Tag" not in headers
    assert Image.open(io.BytesIO(content)).size == (SIDE, SIDE)
    assert content == picture(SEED, 12, SIDE) == get(port, "train", 12)[0]
    assert content != get(port, "train", 13)[0]


@pytest.mark.parametrize(("kind", "code"), [("missing", 404), ("server_error", 500), ("no_such_kind", 404)])
def test_dead_links_answer_with_their_code(port: int, kind: str, code: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(port, kind, 1)
    assert caught.value.code == code


def test_a_corrupt_picture_arrives_whole_but_no_decoder_reads_it(port: int) -> None:
    cv2 = pytest.importorskip("cv2")
    content, headers = get(port, "corrupt", 3)
    assert int(headers["Content-Length"]) == len(content) > 0
    assert content == picture(SEED, 3, SIDE)[: len(content)]
    assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) is None
    with pytest.raises(OSError):
        Image.open(io.BytesIO(content)).load()


def test_a_picture_that_opts_out_is_whole_and_says_so(port: int) -> None:
    content, headers = get(port, "opt_out", 4)
    assert headers["X-Robots-Tag"] == "noai"
    assert content == picture(SEED, 4, SIDE)


def test_a_stalled_link_sends_headers_and_then_nothing(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    connection.request("GET", "/stalled/000005.jpg")
    answer = connection.getresponse()
    assert answer.status == 200 and int(answer.headers["Content-Length"]) > 0
    with pytest.raises(TimeoutError):
        answer.read()
    connection.close()


def test_stalled_links_do_not_hold_up_the_others(port: int) -> None:
    stalled = []
    for number in range(8):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        connection.request("GET", url(port, "stalled", number))
        stalled.append(connection)
    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(lambda number: get(port, "train", number)[0], range(48)))
    assert time.monotonic() - started < 10
    assert contents == [picture(SEED, number, SIDE) for number in range(48)]
    for connection in stalled:
        connection.close()


def test_a_taken_port_is_one_clear_error(port: int) -> None:
    with pytest.raises(LaunchError, match=rf"corpus\.scenes\.port = {port}: cannot listen .* set another port"):
        with serving(port, SEED, SIDE):
            pass


def refuses(port: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_the_server_ends_with_the_block_and_its_port_is_free_at_once() -> None:
    port = free_port()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="a stage fails"):
            with serving(port, SEED, SIDE):
                get(port, "train", 1)
                raise RuntimeError("a stage fails")
        assert refuses(port, 0.5)


def test_the_server_is_silent_and_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    port = free_port()
    script = (
        "import sys, time\n"
        "from caft.data.scenes.server import serving\n"
        f"with serving({port}, {SEED}, {SIDE}):\n"
        "    open(sys.argv[1], 'w').close()\n"
        "    time.sleep(60)\n"
    )
    started = tmp_path / "started"
    output = tmp_path / "output"
    with output.open("wb") as file:
        parent = subprocess.Popen(
            [sys.executable, "-c", script, str(started)],
            stdout=file,
            stderr=file,
            cwd=Path(__file__).parents[2],
        )
    deadline = time.monotonic() + 300
    while not started.exists():
        assert parent.poll() is None and time.monotonic() < deadline, output.read_text()
        time.sleep(0.05)
    get(port, "train", 1)
    with pytest.raises(urllib.error.HTTPError):
        get(port, "missing", 1)
    # A client that hangs up before its answer must not leave a traceback in a job's log either.
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /train/000002.jpg HTTP/1.0\r\n\r\n")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    time.sleep(0.3)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert refuses(port, 10)
    assert output.read_text() == ""
