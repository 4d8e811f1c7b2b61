"""A million captions and twenty thousand images through the stages."""

import json
import random
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pyarrow.parquet as pq

from caft.data.crawl.fetch import fetch_images
from tests.data.conftest import web, web_server  # noqa: F401
from tests.data.test_crawl import CRAWLING, crawled
from tests.data.test_fetch import PROGRAM
from tests.data.web import Web, crawl_table
from tests.faults.stages import PROJECT
from tests.verify import scale

IMAGES, KILLS = 20_000, 3
# Answers of these depend on whether the address was asked for before, which a kill changes.
STATEFUL = ("later", "flaky")


def test_a_million_rows_stay_under_four_gigabytes(tmp_path: Path) -> None:
    found = {}
    for rows in (100_000, 1_000_000):
        folder = tmp_path / str(rows)
        folder.mkdir()
        found[rows] = scale.run(folder, rows)
    print("\n" + scale.table(found))
    assert all(cost.memory < 4 << 30 for cost in found[1_000_000].values())


def test_counts_of_twenty_thousand_images_are_what_the_server_did(web: Web, tmp_path: Path) -> None:  # noqa: F811
    crawled(web, IMAGES, tmp_path)


def test_three_random_kills_end_in_the_undisturbed_manifest(web: Web, tmp_path: Path) -> None:  # noqa: F811
    urls = tmp_path / "urls.parquet"
    pq.write_table(crawl_table(web, IMAGES, without=STATEFUL), urls)
    settings = CRAWLING.model_copy(update={"images_per_shard": IMAGES // 20})
    begun = time.monotonic()
    undisturbed = fetch_images("web", urls, tmp_path / "undisturbed", settings, nullcontext()).as_json()
    seconds = time.monotonic() - begun
    rng = random.Random(0)
    arguments = [str(urls), str(tmp_path / "killed"), json.dumps(settings.model_dump())]
    for kill in range(KILLS + 1):
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, cwd=PROJECT)
        try:
            output, _ = process.communicate(timeout=None if kill == KILLS else rng.uniform(0.1, 0.5) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()  # this one process, without a chance to clean up
            output, _ = process.communicate()
            assert not output
    assert json.loads(output) == undisturbed
