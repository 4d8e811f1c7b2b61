"""The command `caft demo`: whom it serves what, what it writes, and what it refuses."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from caft.demo.serving import PageServer
from caft.errors import CaftError
from caft.model.card import ModelCard
from caft.model.command import main
from caft.network.caft import CAFT
from caft.params import load_params
from caft.weights.files import save_model
from tests.ports import free_port

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def weights(small_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(small_model.network, path, small_model.card)
    return path


@pytest.fixture
def served():
    """A server of a page of a few bytes, in this process."""
    with PageServer(0) as server:
        thread = threading.Thread(target=server.serve, args=("<p>a page</p>",))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, method="GET", path="/", **headers):
    """Status, headers and body of an answer; `Host` is as a browser would send it unless it is given."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=120)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def test_the_page_is_served_on_loopback_alone(served):
    status, headers, body = ask(served)
    assert (status, body, headers["Content-Type"]) == (200, b"<p>a page</p>", "text/html; charset=utf-8")
    assert served.server_address[0] == "127.0.0.1" and served.address == f"http://127.0.0.1:{served.server_port}/"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'" and "Python" not in headers["Server"]
    assert ask(served, Host=f"localhost:{served.server_port}")[0] == 200


@pytest.mark.parametrize("host", ["example.org", "example.org:{port}", "127.0.0.1", "127.0.0.1.example.org:{port}", ""])
def test_who_asks_for_another_name_gets_nothing(served, host):
    status, _, body = ask(served, Host=host.format(port=served.server_port))
    assert status == 421 and b"a page" not in body


@pytest.mark.parametrize("path", ["/index.html", "/?a=1", "/../caft", "/%2e"])
def test_nothing_else_is_served(served, path):
    status, _, body = ask(served, path=path)
    assert status == 404 and b"a page" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"])
def test_nothing_else_is_done(served, method):
    assert ask(served, method)[0] == 404


def test_a_browser_that_leaves_early_is_nothing_to_speak_of(capfd):
    with PageServer(0) as server:
        thread = threading.Thread(target=server.serve, args=("x" * 50_000_000,))  # more than waits in between
        thread.start()
        with socket.create_connection(("127.0.0.1", server.server_port)) as browser:
            browser.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
            assert browser.recv(12) == b"HTTP/1.0 200"
        status, _, page = ask(server)  # others are served
        server.shutdown()
        thread.join()
    assert (status, len(page)) == (200, 50_000_000) and capfd.readouterr().err == ""


def test_a_port_that_is_taken_is_said():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            CaftError, match=f"--port {port}: is taken by another program; give another, or leave it out"
        ):
            PageServer(port)


def test_it_prints_its_address_serves_and_ends_at_ctrl_c(weights, pictures, tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "caft", "demo", weights, pictures[0].parent, "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen(
        list(map(str, command)),
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = process.stdout.readline()
        assert address == f"http://127.0.0.1:{port}/\n", process.stderr.read()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        connection.request("GET", "/")
        answer = connection.getresponse()
        page = answer.read().decode()
        assert answer.status == 200 and page.endswith("</html>\n") and "6 pictures" in page
        connection.close()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert (process.returncode, output) == (130, "") and errors.splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir())


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Gives a function that runs the command in an empty folder: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        try:
            code = main(["demo", *map(str, arguments)])
        except SystemExit as exit:  # argparse
            code = exit.code
        return code, *capsys.readouterr()

    return call


def test_the_page_is_written_where_it_is_asked_for(run, weights, tmp_path):
    code, output, errors = run(weights, "-o", "out/live.html")
    assert (code, output) == (0, "out/live.html\n"), errors
    page = (tmp_path / "out/live.html").read_text(encoding="utf-8")
    assert '"pictures": []' in page  # none here, as no pipeline has rendered any


def test_the_rendered_pictures_are_taken_where_they_lie(run, weights, tmp_path):
    random = tmp_path / "data/benchmarks/scenes/random"
    for folder in ("image", "caption"):
        (random / folder).mkdir(parents=True)
    Image.new("RGB", (64, 64), "olive").save(random / "image/1.jpg")
    (random / "caption/1.txt").write_text("The background is olive.")
    (random / "image/2.jpg").write_bytes(b"no picture")
    code, _, errors = run(weights, "-o", "live.html")
    assert code == 0 and "left out:" in errors and "2.jpg" in errors
    page = (tmp_path / "live.html").read_text(encoding="utf-8")
    assert "random: the first 1 of 2 pictures" in page and "The background is olive." in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.safetensors", "-o", "a.html"], "absent.safetensors"),
        (["{model}", "absent", "-o", "a.html"], "absent: no such folder; give one that holds pictures"),
        (["{model}", ".", "-o", "a.html"], "no picture in it or below; give a folder that holds pictures"),
        (["{model}", "-o", "a.htm"], "a.htm: expected a name that ends in .html"),
        (["{model}", "-o", "."], "expected a name that ends in .html"),
        (["{model}", "--port", "0"], "expected a port from 1 to 65535, found '0'"),
        (["{model}", "--port", "http"], "expected a port from 1 to 65535, found 'http'"),
    ],
)
def test_what_it_cannot_use_is_refused_in_one_line(run, weights, tmp_path, arguments, message):
    code, output, errors = run(*(word.format(model=weights) for word in arguments))
    assert (code, output) == (2, "") and "Traceback" not in errors
    assert message in errors.splitlines()[-1], errors
    assert not list(tmp_path.iterdir())


def test_a_port_that_is_taken_is_told_before_the_work(run, weights):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, output, errors = run(weights, "--port", taken.getsockname()[1])
    assert (code, output) == (2, "") and re.fullmatch(r"error: --port \d+: is taken .*", errors.strip())


def test_models_that_no_page_runs_are_refused(run, weights, tmp_path):
    """Without superpixels, as the row `flair` of Table 3."""
    settings = load_params(PROJECT / "params.yaml", [PROJECT / "pipelines/ablation/flair.yaml"]).models["tiny"]
    card = {"splitter": "spacy", "chunks": 1, "balanced_rule": "paper", "model": settings, "fingerprint": "0" * 16}
    save_model(CAFT(settings, chunks=1), tmp_path / "flat.safetensors", ModelCard(**card))
    code, output, errors = run("flat.safetensors", "-o", "a.html")
    assert (code, output) == (2, "") and "the model has no superpixels" in errors.splitlines()[-1]
