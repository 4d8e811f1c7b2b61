"""Loopback under a proxy that nobody answers at: every part asks its own servers directly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ports import free_port

PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
PROJECT = Path(__file__).parents[2]


def behind_a_proxy(code: str, *arguments: object, **variables: str) -> str:
    """What a program prints that runs where all proxies are a port at which nobody listens, and `no_proxy` is not set."""
    clean = {name: value for name, value in os.environ.items() if name.lower() not in ("no_proxy", *PROXIES)}
    environment = clean | dict.fromkeys(PROXIES, f"http://127.0.0.1:{free_port()}") | variables
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_scenes_are_fetched_from_their_own_server() -> None:
    code = """
import sys, urllib.request
from caft.data.scenes.server import serving
port = int(sys.argv[1])
with serving(port, 5, 64):
    print(len(urllib.request.urlopen(f"http://127.0.0.1:{port}/train/3.jpg", timeout=5).read()) > 500)
"""
    assert behind_a_proxy(code, free_port()) == "True\n"


@pytest.mark.slow
def test_img2dataset_fetches_from_loopback(tmp_path: Path) -> None:
    code = """
import sys
from contextlib import nullcontext
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
from caft.data.crawl.fetch import fetch_images
from caft.data.scenes.server import serving
from caft.data.tables.schema import FIELDS, URLS
from tests.data.web import SETTINGS

port, folder = int(sys.argv[1]), Path(sys.argv[2])
addresses = [f"http://127.0.0.1:{port}/train/{n}.jpg" for n in range(4)]
columns = {"row_id": list(range(4)), "url": addresses, **{name: ["words"] * 4 for name in FIELDS}}
pq.write_table(pa.table(columns, schema=URLS), folder / "urls.parquet")
manifest = fetch_images("one", folder / "urls.parquet", folder / "images", SETTINGS, nullcontext())
"""
    # The server is of another process, so nothing but the crawl itself has set the variable.
    from caft.data.scenes.server import serving

    port = free_port()
    with serving(port, 5, 64):
        behind_a_proxy(code + "assert (manifest.successes, manifest.lost) == (4, {}), manifest\n", port, tmp_path)


@pytest.mark.slow
def test_ray_starts_and_works() -> None:
    code = """
from caft.data.tables.cluster import ray_started
with ray_started():
    import ray
    print(ray.get(ray.remote(lambda: 6 * 7).remote()))
"""
    assert behind_a_proxy(code) == "42\n"


TRACKED = """
import sys
from caft.params import load_params
from caft.train.tracking.runs import open_run
params = load_params("params.yaml", values=[f"storage.tracking_uri={sys.argv[1]}", f"storage.root={sys.argv[2]}"])
run = open_run(params, "f", "name", {}, {})
run.log_metrics([(1, {"loss": 1.0})])
run.finish()
print("tracked")
"""


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("localhost", marks=pytest.mark.verify)])
def test_a_tracking_server_on_loopback_is_reached(host: str, tmp_path: Path) -> None:
    from tests.train.servers import mlflow_server

    with mlflow_server(tmp_path) as port:
        said = behind_a_proxy(TRACKED, f"http://{host}:{port}", tmp_path, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert said.endswith("tracked\n")


@pytest.mark.parametrize(
    ("small", "large", "then"),
    [
        (None, None, ["127.0.0.1,localhost,::1"] * 2),
        ("corp.example", None, ["corp.example,127.0.0.1,localhost,::1"] * 2),
        (None, "10.0.0.0/8, localhost", ["10.0.0.0/8,localhost,127.0.0.1,::1"] * 2),
        ("one", "two", ["one,127.0.0.1,localhost,::1", "two,127.0.0.1,localhost,::1"]),
        ("*", None, ["*", None]),
        (" * ", None, ["*", None]),
        ("one , two ", None, ["one,two,127.0.0.1,localhost,::1"] * 2),
    ],
)
def test_what_the_user_spares_stays_spared(
    small: str | None, large: str | None, then: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from caft.data import loopback

    for name, value in (("no_proxy", small), ("NO_PROXY", large)):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "")  # so that what is set below is undone
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value
    for _ in range(2):  # the second time changes nothing
        loopback.spare()
        assert [os.environ.get(name) for name in ("no_proxy", "NO_PROXY")] == then


def test_each_stage_spares_it_for_all_that_it_starts() -> None:
    assert behind_a_proxy("import os, pipelines.stage; print(os.environ['no_proxy'])") == "127.0.0.1,localhost,::1\n"
