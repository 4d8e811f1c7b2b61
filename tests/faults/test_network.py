"""Servers that are down, dead or slow: everything that answers comes, and an outage is not recorded as dead links."""

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from caft.data.crawl.fetch import fetch, fetch_images
from caft.data.tables.schema import FIELDS, URLS
from caft.errors import DataError
from caft.params import load_params
from tests.data.web import SETTINGS, Web
from tests.faults import stages
from tests.faults.checks import refused
from tests.faults.conftest import Finished

pytestmark = pytest.mark.slow
ROWS = 24
ONE_SHARD = SETTINGS.model_copy(update={"images_per_shard": ROWS})


def table(addresses: list[str], path: Path) -> Path:
    columns = {
        "row_id": range(len(addresses)),
        "url": addresses,
        **{name: ["words"] * len(addresses) for name in FIELDS},
    }
    pq.write_table(pa.table({name: list(column) for name, column in columns.items()}, schema=URLS), path)
    return path


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_a_server_that_is_down_is_no_dead_link_and_is_tried_again(web: Web, nobody: str, tmp_path: Path) -> None:
    """The addresses are of a port where a server begins to listen only later, as after an outage."""
    urls = table([f"{nobody}/good/{n}" for n in range(ROWS)], tmp_path / "urls.parquet")
    message = (
        rf"{ROWS} of {ROWS} addresses did not answer \(timeout: 0, unreachable: {ROWS}\), so the network or a server"
    )
    with pytest.raises(DataError, match=rf"(?s)run 3 times without completing one of the 1 missing.*{message}"):
        fetch_images("one", urls, tmp_path / "images", ONE_SHARD, nullcontext())
    assert not list((tmp_path / "images/about").glob("0*.json"))  # nothing is taken for fetched
    with _forwarded(nobody, web.address):
        manifest = fetch_images("one", urls, tmp_path / "images", ONE_SHARD, nullcontext())
    assert (manifest.successes, manifest.lost) == (ROWS, {})


@contextmanager
def _forwarded(address: str, to: str) -> Iterator[None]:
    """Answers at one address as a server at another does."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread
    from urllib.request import urlopen

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with urlopen(to + self.path) as answer:
                content = answer.read()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", int(address.rsplit(":", 1)[1])), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def test_links_that_are_all_dead_are_refused_with_their_causes(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "overlay.yaml").write_text(json.dumps({"fetch": ONE_SHARD.model_dump()}))
    params = load_params("params.yaml", [tmp_path / "overlay.yaml"])
    monkeypatch.setenv("CAFT_STORAGE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    urls = table([f"{web.address}/missing/{n}" for n in range(ROWS)], tmp_path / "urls.parquet")
    with pytest.raises(DataError, match=rf"cc3m: 0 of {ROWS} images came \(0\.0%\).*\{{'http_404': {ROWS}\}}"):
        fetch(params, "cc3m", urls)
    assert len(web.requests) == ROWS


@pytest.mark.parametrize("delay", [0.4, 3.0])
def test_half_of_the_servers_slow(web: Web, tmp_path: Path, delay: float) -> None:
    """Slow ones are waited for up to the timeout of two seconds; those beyond it are lost as such, and counted."""
    paths = [f"/good/{n}" if n % 2 else f"/slow/{n}" for n in range(ROWS)]
    web.slow = delay
    urls = table([web.address + path for path in paths], tmp_path / "urls.parquet")
    manifest = fetch_images("one", urls, tmp_path / "images", ONE_SHARD, nullcontext())
    late = ROWS // 2 if delay > SETTINGS.timeout else 0
    assert manifest.successes == ROWS - late
    assert manifest.lost == ({"timeout": late} if late else {})


def test_a_tracking_server_that_is_down_is_told_before_training_begins(
    finished: Finished, disk: Path, nobody: str
) -> None:
    checkout = finished.before("train", disk)
    settings = yaml.safe_load((checkout / "params.yaml").read_text())
    settings["storage"]["tracking_uri"] = nobody
    (checkout / "params.yaml").write_text(yaml.safe_dump(settings))
    done = stages.run("train", checkout, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    refused(done, f"error: MLflow at {nobody}: ")
    assert not any((checkout / out).exists() for out in stages.outs("train"))
    assert not list(checkout.glob("runs/*/jobs"))


def test_images_that_were_deleted_behind_their_manifest_come_back(finished: Finished, disk: Path) -> None:
    checkout = finished.before("superpixels", disk)
    tars = {path.name: path.read_bytes() for path in (checkout / "images/scenes").glob("*.tar")}
    shutil.rmtree(checkout / "images")
    done = stages.run("superpixels", checkout)
    assert done.code == 0, done.log
    assert "3 of 3 shards in data/images/scenes.json are not there" in done.log
    assert {path.name: path.read_bytes() for path in (checkout / "images/scenes").glob("*.tar")} == tars
    for out in stages.outs("superpixels"):
        assert stages.content(checkout / out) == finished.content(out)
