"""Trackers that are locked, or answer with an error: one message that says what is in the way and what to do."""

import logging
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient

from caft.errors import LaunchError, TrackingError
from caft.params import Params, load_params
from caft.train.follow import Follower
from caft.train.tracking.runs import open_run
from tests.faults.conftest import Mount, disk, mount  # noqa: F401

HOLD = """
import sys, time
from pathlib import Path
from caft.locking import locked
with locked(Path(sys.argv[1]), "writing to MLflow", name=".mlflow.lock"):
    print("held", flush=True)
    time.sleep(600)
"""


def settings(folder: Path, uri: str | None = None) -> Params:
    loaded = load_params("params.yaml")
    storage = loaded.storage.model_copy(update={"root": str(folder), "tracking_uri": uri})
    return loaded.model_copy(update={"storage": storage})


# ---- the lock


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the tracker's lock and was stopped, as by Ctrl-Z."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGSTOP)
    try:
        yield holder
    finally:
        holder.kill()
        holder.wait()


def test_a_lock_that_is_never_freed_is_given_up(
    stopped: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("caft.train.tracking.server.PATIENCE", 0.5)
    with caplog.at_level(logging.WARNING), pytest.raises(LaunchError) as caught:
        open_run(settings(tmp_path), "f", "name", {}, {})
    said = str(caught.value)
    assert said.startswith(f"{tmp_path}: process {stopped.pid} on ")
    assert f"`kill -CONT {stopped.pid}`" in said and "is writing to MLflow; wait for it or end it" in said
    assert "storage.tracking_uri" not in said  # which has nothing to do with it
    assert any("waiting for it to end" in record.getMessage() for record in caplog.records)


def test_a_lock_that_is_freed_in_time_is_taken(stopped: subprocess.Popen[str], tmp_path: Path) -> None:
    timer = threading.Timer(1.0, stopped.kill)
    timer.start()
    assert open_run(settings(tmp_path), "f", "name", {}, {}).run_id
    timer.join()


# ---- answers


@pytest.fixture
def answering() -> Iterator[type[BaseHTTPRequestHandler]]:
    """A server that answers everything with `code` and `body`, also as a proxy; `address` is where."""

    class Handler(BaseHTTPRequestHandler):
        code, body, address = 200, "", ""

        def do_GET(self) -> None:
            self.send_response(self.code)
            self.send_header("Content-Length", str(len(self.body)))
            self.end_headers()
            self.wfile.write(self.body.encode())

        do_POST = do_GET

        def do_CONNECT(self) -> None:
            self.send_error(self.code)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        Handler.address = f"127.0.0.1:{server.server_port}"
        yield Handler
        server.shutdown()


def refusal(folder: Path, uri: str) -> str:
    with pytest.raises(TrackingError) as caught:
        open_run(settings(folder, uri), "f", "name", {}, {})
    said = str(caught.value)
    assert said.startswith(f"MLflow at {uri}: ") and len(said.splitlines()) == 1
    return said


@pytest.mark.parametrize(
    ("code", "body", "words"),
    [
        (403, "Invalid Host header - possible DNS rebinding attack detected", "--allowed-hosts {address}`"),
        (401, "You are not authenticated.", "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (403, "Permission denied", "ask who runs it for the right to write"),
        (403, '{"error_code": "PERMISSION_DENIED", "message": "no"}', "ask who runs it for the right to write"),
        (500, "Internal Server Error", "the server itself has failed, so look at its log"),
        (500, '{"error_code": "INTERNAL_ERROR", "message": "disk full"}', "the server itself has failed"),
        (502, "Bad gateway", "look there whether `mlflow server` runs"),
        (200, "<html>Welcome</html>", "no MLflow server, so check storage.tracking_uri"),
        (404, "not found", "no MLflow server, so check storage.tracking_uri"),
    ],
)
def test_each_answer_has_its_own_remedy(
    code: int, body: str, words: str, answering: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    answering.code, answering.body = code, body  # type: ignore[attr-defined]
    said = refusal(tmp_path, f"http://{answering.address}")  # type: ignore[attr-defined]
    assert words.format(address=answering.address) in said  # type: ignore[attr-defined]
    assert "that its server runs" not in said


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("code", [403, 407, 503])
def test_a_proxy_in_the_way_is_named(
    code: int, scheme: str, answering: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the address is asked but the proxy, so that it needs no such machine."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://{answering.address}")  # type: ignore[attr-defined]
    answering.code, answering.body = code, "the proxy says no"  # type: ignore[attr-defined]
    said = refusal(tmp_path, f"{scheme}://tracker.example:5000")
    assert f"the proxy http://{answering.address} was asked" in said  # type: ignore[attr-defined]
    assert "add tracker.example to no_proxy" in said


@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "HTTP_PROXY"])
@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxy_of_all_is_named_without_its_password(
    variable: str, scheme: str, answering: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    answering.code, answering.body = 407, "the proxy says no"  # type: ignore[attr-defined]
    monkeypatch.setenv(variable, f"{scheme}://me:secret@{answering.address}")  # type: ignore[attr-defined]
    with pytest.raises(TrackingError) as caught:
        open_run(settings(tmp_path, "http://you:hidden@tracker.example:5000"), "f", "name", {}, {})
    said = str(caught.value)
    assert said.startswith("MLflow at http://tracker.example:5000: ")
    assert f"the proxy {scheme}://{answering.address} was asked, so add tracker.example to no_proxy" in said  # type: ignore[attr-defined]
    assert "secret" not in said and "hidden" not in said


def test_https_asked_of_a_server_that_speaks_http_is_told(
    answering: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert "does not speak https" in refusal(tmp_path, f"https://{answering.address}")  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_real_server_that_is_called_by_another_name_says_which_option_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What docs/tracking.md has a cluster do: with the option that it names, the same address is answered."""
    import socket

    from tests.train.servers import mlflow_server

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    name = "tracker.localhost"
    monkeypatch.setattr(socket, "getaddrinfo", _to_loopback(socket.getaddrinfo, name))
    with mlflow_server(tmp_path, "--allowed-hosts", "localhost,127.0.0.1*") as port:
        said = refusal(tmp_path, f"http://{name}:{port}")
        assert said.endswith(f"start it with `mlflow server --allowed-hosts {name}:{port}`")
    with mlflow_server(tmp_path, "--allowed-hosts", f"localhost,127.0.0.1*,{name}*") as port:
        assert open_run(settings(tmp_path, f"http://{name}:{port}"), "f", "name", {}, {}).run_id


def _to_loopback(resolve, name):  # type: ignore[no-untyped-def]
    """A resolver that knows one more name, as the network of a cluster does."""
    return lambda host, *rest, **options: resolve("127.0.0.1" if host == name else host, *rest, **options)


# ---- a tracker that stops in the middle


@pytest.mark.slow
def test_a_tracker_that_took_nothing_is_an_error_in_the_end_and_one_that_took_something_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.ports import free_port
    from tests.train.servers import start_server, stop_server

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    port, weights = free_port(), tmp_path / "final.safetensors"
    server = start_server(tmp_path, port)
    run = open_run(settings(tmp_path, f"http://127.0.0.1:{port}"), "f", "name", {}, {})
    (tmp_path / "run").mkdir()
    metrics = tmp_path / "run/metrics.jsonl"
    metrics.write_text('{"step": 10, "loss": 2.0, "images_per_s": 1.0}\n')
    nothing, some = Follower(tmp_path / "run", run), Follower(tmp_path / "run", run)
    some.follow()
    stop_server(server)
    try:
        with metrics.open("a") as file:
            file.write('{"step": 20, "loss": 1.0, "images_per_s": 1.0}\n')
        for follower in (nothing, some):
            follower.follow()
        said = [record.getMessage() for record in caplog.records if record.name == "caft.train.follow"]
        assert [message.count("The training goes on") for message in said] == [1, 1]
        with pytest.raises(TrackingError):
            nothing.finish("FINISHED", weights)
        nothing.finish("FAILED", None)  # after another error, which is the one to be told
        some.finish("FINISHED", weights)
        assert "1 lines of metrics, the model or the end of the run are not in the tracker" in caplog.text
    finally:
        server = start_server(tmp_path, port)
    try:
        some.finish("FAILED", None)  # the tracker answers again: what it had is not sent twice
        history = MlflowClient(f"http://127.0.0.1:{port}").get_metric_history(run.run_id, "curves/train/loss")
        assert [(point.step, point.value) for point in history] == [(10, 2.0), (20, 1.0)]
    finally:
        stop_server(server)


# ---- a database that goes away in the middle


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow, with an experiment; making one takes seconds."""
    folder = tmp_path_factory.mktemp("database")
    run = open_run(settings(folder), "other", "name", {}, {})
    run.finish()
    return folder / "mlflow.db"


def _remove(database: Path) -> None:
    database.unlink()


def _replace(database: Path) -> None:
    database.unlink()
    database.write_bytes(b"no database" * 500)


def _empty(database: Path) -> None:
    database.write_bytes(b"")


def _lock(database: Path) -> sqlite3.Connection:
    """Keeps the write lock, as another program does that has stopped."""
    held = sqlite3.connect(database, isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")
    return held


def _fill(database: Path) -> None:
    """Leaves no byte free where it lies."""
    with suppress(OSError), (database.parent / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_remove, "the file was removed while it was open: put it back, or the next stage begins a new one"),
        (_replace, "look whether {database} is a file and its folder can be written"),
        (_empty, "the file is damaged: put a copy back, or move it away"),
        # MLflow waits for twenty seconds, each time.
        pytest.param(_lock, "another process is writing to it and does not end", marks=pytest.mark.verify),
        (_fill, "its disk is full: make room there"),
    ],
)
def test_a_database_that_goes_away_ends_no_training(
    spoil: Callable[[Path], sqlite3.Connection | None],
    words: str,
    database: Path,
    mount: Mount,  # noqa: F811
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    here, weights = mount.path / "mlflow.db", tmp_path / "final.safetensors"
    shutil.copy(database, here)
    params = settings(tmp_path, f"sqlite:///{here}?timeout=0.1")
    run = open_run(params, "f", "name", {}, {})
    (tmp_path / "run").mkdir()
    metrics = tmp_path / "run/metrics.jsonl"
    metrics.write_text('{"step": 10, "loss": 2.0, "images_per_s": 1.0}\n')
    follower = Follower(tmp_path / "run", run)
    follower.follow()
    held = spoil(here)
    with metrics.open("a") as file:
        file.write('{"step": 20, "loss": 1.0, "images_per_s": 1.0}\n')
    follower.follow()
    [said] = [record.getMessage() for record in caplog.records if "The training goes on" in record.getMessage()]
    assert said.startswith(f"MLflow at sqlite:///{here}") and words.format(database=here) in said
    assert len(said.splitlines()) == 1 and len(said) < 500
    follower.finish("FINISHED", weights)  # they are there, and the tracker had taken some metrics
    assert "1 lines of metrics, the model or the end of the run are not in the tracker" in caplog.text
    assert "Traceback" not in capfd.readouterr().err

    (mount.path / "filler").unlink(missing_ok=True)
    if held is not None:
        held.close()
    if spoil in (_lock, _fill):  # the database is there again
        follower.finish("FINISHED", None)
        client = MlflowClient(params.storage.tracking_uri)
        assert client.get_run(run.run_id).info.status == "FINISHED"
        history = client.get_metric_history(run.run_id, "curves/train/loss")
        assert [(point.step, point.value) for point in history] == [(10, 2.0), (20, 1.0)]
    else:  # a copy of an earlier day is put back
        shutil.copy(database, here)
        later = settings(tmp_path, f"sqlite:///{here}")  # as another process, which does not have the other file open
        assert open_run(later, "f", "name", {}, {}).run_id != run.run_id


@pytest.mark.slow
def test_a_database_that_is_no_database_is_one_error_when_a_stage_begins(database: Path, tmp_path: Path) -> None:
    here = tmp_path / "mlflow.db"
    uri = f"sqlite:///{here}?timeout=0.1"
    here.write_bytes(database.read_bytes()[:40000])
    assert "the file is damaged: put a copy back" in refusal(tmp_path, uri)
    here.unlink()
    here.mkdir()
    assert f"look whether {here} is a file" in refusal(tmp_path, uri)
    here.rmdir()
    shutil.copy(database, here)
    with closing(sqlite3.connect(here)) as other:
        other.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        other.commit()
    assert f"copy the file, then run `mlflow db upgrade sqlite:///{here}`" in refusal(tmp_path, uri)
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == ["mlflow.db"]
