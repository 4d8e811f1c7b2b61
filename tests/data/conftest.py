"""A web server that misbehaves in known ways, one fetch from it that many tests look at, and one Ray."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pyarrow.parquet as pq
import pytest

from caft.data.crawl.fetch import fetch_images
from caft.data.tables.cluster import ray_started
from caft.params import Params, load_params
from tests.data.web import SETTINGS, Fetched, Web, url_table


@pytest.fixture(scope="session")
def web_server() -> Iterator[Web]:
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                web.answer(self)
            except ConnectionError:
                pass

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128  # with the usual 5, a burst of requests waits for a second

    server = Server(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    web.address = f"http://127.0.0.1:{server.server_port}"
    yield web
    web.hang = False
    server.shutdown()
    server.server_close()


@pytest.fixture
def web(web_server: Web) -> Web:
    web_server.reset()
    return web_server


@pytest.fixture(scope="session")
def fetched(web_server: Web, tmp_path_factory: pytest.TempPathFactory) -> Fetched:
    """Tests copy the folder before they change anything in it."""
    web_server.reset()
    folder = tmp_path_factory.mktemp("fetched")
    pq.write_table(url_table(web_server), folder / "urls.parquet")
    begun = time.monotonic()
    manifest = fetch_images("web", folder / "urls.parquet", folder / "images", SETTINGS, nullcontext())
    seconds = time.monotonic() - begun
    return Fetched(folder / "urls.parquet", folder / "images", manifest, Counter(web_server.requests), seconds)


@pytest.fixture(scope="session")
def ray() -> Iterator[None]:
    """One Ray for all tests that need one: starting it takes longer than all of them."""
    with ray_started():
        yield


@pytest.fixture
def project(fetched: Fetched, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Params]:
    """A checkout whose corpus `cc3m` is what was fetched, with a copy of its images."""
    overlay = {"fetch": SETTINGS.model_dump()}
    (tmp_path / "overlay.yaml").write_text(json.dumps(overlay))
    params = load_params("params.yaml", [tmp_path / "overlay.yaml"])
    shutil.copytree(fetched.folder, tmp_path / "images" / "cc3m")
    (tmp_path / "data" / "urls").mkdir(parents=True)
    shutil.copy(fetched.urls, tmp_path / "data" / "urls" / "cc3m.parquet")
    monkeypatch.setenv("CAFT_STORAGE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield params
