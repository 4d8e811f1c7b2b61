"""Runs img2dataset on a list of addresses until every shard is there, whatever it or the network does.

img2dataset is a subprocess, and its exit code says nothing: it exits with 0 after failed shards, and
it may hang at the end of a shard for ever (both are known, and not fixed there). So we watch the
folder: a shard counts once its statistics are written and it has been checked; if no file grows any
more, the whole process group is killed and started again for what is missing.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from caft.data import loopback
from caft.data.crawl.manifest import Shard, forget_shard, notes_folder, shard_files
from caft.data.crawl.shards import settle, stats_are_written
from caft.errors import DataError
from caft.params.corpora import STALL_SECONDS, FetchParams

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
# Runs in a row that bring not one new shard.
FRUITLESS_RUNS = 3
LOG_LINES = 15
# No look for updates; what img2dataset says is in its log at once; one thread a worker for decoding.
ENVIRONMENT = {"NO_ALBUMENTATIONS_UPDATE": "1", "PYTHONUNBUFFERED": "1", "OPENCV_NUM_THREADS": "1"}


def crawl(
    folder: Path,
    urls: Path,
    missing: Mapping[str, int],
    settings: FetchParams,
    home: Path | None,
) -> Iterator[Shard]:
    """Fetches the missing shards and yields each once it has been checked.

    Args:
        folder: Folder of the shards; absolute.
        urls: The whole list, a table of row_id and url with one row group for each shard; absolute.
        missing: Name and position in the list of each shard to fetch; all others must be complete.
        settings: How img2dataset is called.
        home: Working directory of img2dataset; addresses `file:NAME` are relative to it.

    Raises:
        DataError: Several runs in a row ended or hung without one new shard.
    """
    table = pq.ParquetFile(urls)
    left = dict(missing)
    fruitless = 0
    refused: dict[str, DataError] = {}
    while left:
        for name in left:
            forget_shard(folder, name)
        shutil.rmtree(folder / "_tmp", ignore_errors=True)
        before = len(left)
        refused.clear()
        for shard in _run(folder, urls, table, left, settings, home, refused):
            del left[shard.name]
            yield shard
        fruitless = 0 if len(left) < before else fruitless + 1
        if fruitless == FRUITLESS_RUNS:
            if refused:
                found = f"What came of {len(refused)} of them was refused, the first because:\n{next(iter(refused.values()))}"
            else:
                lines = _log(folder).read_text(errors="replace").splitlines()[-LOG_LINES:]
                found = "\n".join((f"The end of its log, {_log(folder)}:", *lines))
            free = shutil.disk_usage(folder).free / 2**20
            raise DataError(
                f"{folder}: img2dataset was run {FRUITLESS_RUNS} times without completing one of the "
                f"{len(left)} missing shards ({', '.join(list(left)[:10])}); {free:.1f} MB are free there. {found}\n"
                "See to the cause and run the stage again; complete shards are kept"
            )
        if left:
            logger.warning("img2dataset ended with %d shards missing; running it again", len(left))


def _run(
    folder: Path,
    urls: Path,
    table: pq.ParquetFile,
    missing: Mapping[str, int],
    settings: FetchParams,
    home: Path | None,
    refused: dict[str, DataError],
) -> Iterator[Shard]:
    """One run of img2dataset: yields shards as they are completed, until it ends, hangs or has no more to do.

    Shards that did not pass their check go to `refused`.
    """
    waiting = dict(missing)
    process = _start(folder, urls, len(missing), settings, home)
    try:
        size, grown_at = -1, time.monotonic()
        while waiting:
            ended = process.poll() is not None  # asked first: what it wrote before its end is still looked at
            for name in [name for name in waiting if stats_are_written(folder, name)]:
                position = waiting.pop(name)
                try:
                    yield settle(folder, name, asked_rows(table, position), settings.minimum_yield)
                except DataError as error:
                    refused[name] = error
                    logger.warning("shard %s is fetched again: %s", name, error)
            now, previous, size = time.monotonic(), size, _bytes(folder, waiting)
            if size != previous:
                grown_at = now
            elif now - grown_at > STALL_SECONDS:
                logger.warning("img2dataset has written nothing for %.0f s; killing it", now - grown_at)
                return
            if ended:
                return
            time.sleep(POLL_SECONDS)
    finally:
        # Also when all shards are there: nothing of what it does after the last one is needed.
        _kill_group(process)


def _start(folder: Path, urls: Path, shards: int, settings: FetchParams, home: Path | None) -> subprocess.Popen[bytes]:
    arguments = {
        "url_list": str(urls),
        "input_format": "parquet",
        "url_col": "url",
        "save_additional_columns": ["row_id"],
        "output_folder": str(folder),
        "output_format": "webdataset",
        "number_sample_per_shard": settings.images_per_shard,
        # The default would pad to a square with white bars, and crops would learn from bars.
        "resize_mode": "keep_ratio",
        "resize_only_if_bigger": True,
        "image_size": settings.image_size,
        "encode_quality": settings.quality,
        "processes_count": min(settings.processes, shards),
        "thread_count": settings.threads,
        "timeout": settings.timeout,
        "retries": settings.retries,
        "compute_hash": "sha256",
        "enable_wandb": False,
        "incremental_mode": "incremental",
    }
    limits = settings.model_dump(include={"timeout_total", "most_bytes"})
    script = Path(__file__).with_name("crawler.py")
    loopback.spare()
    with _log(folder).open("ab") as log:
        return subprocess.Popen(
            # -P: the script's folder must not be a place to import from, its neighbours have common names
            [sys.executable, "-P", str(script), str(os.getpid()), *map(json.dumps, (arguments, limits))],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | ENVIRONMENT,
            cwd=home,
            start_new_session=True,
        )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kills img2dataset and its workers; an interrupt would make it exit with 0, as if it had ended well."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def asked_rows(table: pq.ParquetFile, position: int) -> pa.Table:
    """Returns the rows (row_id, url) of the shard at `position` in a list written for `crawl`."""
    return table.read_row_group(position, columns=["row_id", "url"])


def _bytes(folder: Path, names: Mapping[str, int]) -> int:
    """Bytes written so far into shards that are not complete."""
    total = 0
    for name in names:
        for file in shard_files(folder, name):
            try:
                total += file.stat().st_size
            except FileNotFoundError:
                pass
    return total


def _log(folder: Path) -> Path:
    return notes_folder(folder) / "img2dataset.log"
