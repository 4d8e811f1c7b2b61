"""A fetch that the nodes of a cluster share."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from caft.data.crawl.fetch import fetch_images
from tests.data.conftest import web, web_server  # noqa: F401
from tests.data.web import SETTINGS, Web, url_table
from tests.faults.stages import PROJECT
from tests.slurm.cluster import Cluster
from tests.slurm.project import SLURM
from tests.waiting import wait_until

pytestmark = pytest.mark.slow
# Of 48 addresses, so four shards and two for each node. What stalled is tried once more when both are done.
TWICE = SETTINGS.model_copy(update={"second_pass": True})


def without_digests(manifest: dict[str, Any]) -> dict[str, Any]:
    """Names of pictures inside of tars count from the start of each part; all else is the same."""
    return {**manifest, "shards": [{**shard, "sha256": ""} for shard in manifest["shards"]]}


def test_nodes_share_the_shards_and_a_cancelled_part_is_taken_up(cluster: Cluster, web: Web, tmp_path: Path) -> None:  # noqa: F811
    settings = yaml.safe_load((PROJECT / "params.yaml").read_text())
    nodes = {"executor": "slurm", "nodes": 2, "tasks_per_node": 1, "time_minutes": 30, "slurm": SLURM}
    settings["launchers"]["cpus"] = {**settings["launchers"]["local"], **nodes}
    settings |= {"jobs": {"fetch": "cpus"}, "fetch": TWICE.model_dump()}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    (tmp_path / "data/urls").mkdir(parents=True)
    urls = tmp_path / "data/urls/cc3m.parquet"
    pq.write_table(url_table(web), urls)
    environment = {
        **os.environ,
        **cluster.environment,
        "CAFT_STORAGE": str(tmp_path),
        "PYTHONPATH": str(PROJECT),
    }

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pipelines.fetch", "cc3m"]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)

    def parts() -> dict[str, str]:
        """Ids of the jobs that are under way, by the ends of their names."""
        lines = cluster.call("squeue", "--noheader", "--format=%j %A").splitlines()
        return {name.split("-", 3)[-1]: job for name, job in map(str.split, lines)}

    web.delay = 1.0
    first = start()
    wait_until(lambda: set(parts()) == {"0-of-2", "1-of-2"}, 60)
    wait_until(lambda: bool(web.requests), 60)
    cancelled = parts()["1-of-2"]
    cluster.call("scancel", cancelled)
    _, log = first.communicate(timeout=800)
    assert first.returncode == 2, log
    assert f"error: fetch's job {cancelled} failed (CANCELLED" in log and "what is left of each part" in log
    assert not (tmp_path / "data/images").exists()

    web.delay = 0.0
    half = {path.name for path in (tmp_path / "images/cc3m").glob("*.tar")}
    assert half == {"00000.tar", "00002.tar"}  # of the part that was left alone
    asked = sum(web.requests.values())
    second = start()
    _, log = second.communicate(timeout=800)
    assert second.returncode == 0, log
    manifest = json.loads((tmp_path / "data/images/cc3m.json").read_text())
    # What the other part has fetched is not fetched again: at most its own two shards and what had stalled.
    assert sum(web.requests.values()) - asked <= 2 * TWICE.images_per_shard + 8

    alone = fetch_images("cc3m", urls, tmp_path / "alone", TWICE, nullcontext()).as_json()
    assert without_digests(manifest) == without_digests(alone)
    assert manifest["successes"] == 34 and manifest["lost"]["timeout"] == 1
