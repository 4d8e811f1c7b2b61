"""The stages on captions at scale: rows in published form in, index out, with time and memory of each stage.

    python -m tests.verify.scale 100000 1000000        # rows of each run

Everything runs as in `dvc repro`, each stage a process of its own, but for `fetch`: its tars hold a few bytes in the
place of each picture, since no later stage of these looks at them. Memory is that of the stage's whole process tree, Ray
included, sampled twice a second: the sum of what each process holds, shared pages divided among those that share them.
"""

import hashlib
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from caft.data.crawl.counted import count_rows
from caft.data.crawl.manifest import Manifest, Shard, note_shard, rows_fingerprint
from caft.data.crawl.tars import BLOCK, RECORD
from caft.storage import write_json
from tests.data.published_corpora import write_table
from tests.faults.stages import PROJECT

STAGES = ("source", "captions", "sentences", "select", "index")
CORPUS = "cc12m"
LOST = 0.05  # of the addresses have no image
PICTURE = b"no picture, but as many bytes as a note"


@dataclass(frozen=True)
class Cost:
    """Of a stage: seconds on the clock and of all processors, and the most memory in bytes."""

    seconds: float
    processor: float
    memory: int


def run(folder: Path, rows: int, images_per_shard: int = 10_000, memory_gb: int = 2) -> dict[str, Cost]:
    """Makes a table of rows, runs the stages on it, and checks that every row is accounted for."""
    settings = yaml.safe_load((PROJECT / "params.yaml").read_text())
    settings["corpora"] = [CORPUS]
    settings["storage"]["memory_gb"] = memory_gb
    (folder / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    table = folder / settings["corpus"][CORPUS]["csv"]
    table.parent.mkdir(parents=True)
    dropped = write_table(table, rows)
    costs = {"source": _stage(folder, "source")}
    _fetched(folder, images_per_shard)
    costs |= {name: _stage(folder, name) for name in STAGES[1:]}
    count = json.loads((folder / "metrics/data.json").read_text())[CORPUS]
    lost = json.loads((folder / f"data/images/{CORPUS}.json").read_text())["lost"]
    assert count["rows_in"] == rows
    assert count["dropped"] == dict(sorted({**dropped, **lost}.items()))
    assert count["rows_out"] == rows - sum(dropped.values()) - sum(lost.values())
    return costs


def _fetched(folder: Path, images_per_shard: int) -> None:
    """What `fetch` leaves: tars, tables, notes and manifest; rows are spread over the shards by their addresses."""
    images = folder / "images" / CORPUS
    images.mkdir(parents=True)
    with duckdb.connect() as database:
        urls = str(folder / f"data/urls/{CORPUS}.parquet")
        order = "SELECT row_id, url FROM read_parquet($urls) ORDER BY md5(url)"
        waiting = database.sql(order, params={"urls": urls}).to_arrow_table()
    rng, shards = random.Random(0), []
    for place, first in enumerate(range(0, waiting.num_rows, images_per_shard)):
        rows = waiting.slice(first, images_per_shard)
        shards.append(_shard(images, f"{place:05d}", rows, rng))
    counted = count_rows(folder / f"data/urls/{CORPUS}.parquet", images, [shard.name for shard in shards], 1)
    (folder / "data/images").mkdir()
    counted.rename(folder / f"data/images/{CORPUS}.parquet")
    write_json(folder / f"data/images/{CORPUS}.json", Manifest(CORPUS, "made", tuple(shards)).as_json())
    with duckdb.connect() as database:
        database.execute(
            f"""
            COPY (
                SELECT row_id, url, parse_filename(filename, true) AS shard,
                    CASE WHEN status = 'success' THEN key END AS key,
                    CASE WHEN status <> 'success' THEN 'http_404' END AS cause, width, height,
                    sha256 AS download_sha256
                FROM read_parquet('{images}/*.parquet', filename = true) ORDER BY md5(url), row_id
            ) TO '{folder}/data/images/{CORPUS}.parquet' (FORMAT parquet)
            """
        )


def _shard(images: Path, name: str, rows: pa.Table, rng: random.Random) -> Shard:
    row_ids, urls = rows["row_id"].to_pylist(), rows["url"].to_pylist()
    good = [rng.random() >= LOST for _ in row_ids]
    keys = [f"{name}{place:04d}" for place in range(len(row_ids))]
    content = bytearray()
    for key, is_good in zip(keys, good, strict=True):
        if is_good:
            info = tarfile.TarInfo(f"{key}.jpg")
            info.size = len(PICTURE)
            content += info.tobuf(tarfile.USTAR_FORMAT) + PICTURE + bytes(-len(PICTURE) % BLOCK)
    content += bytes(2 * BLOCK)
    tar = images / f"{name}.tar"
    tar.write_bytes(content + bytes(-len(content) % RECORD))
    sums = [hashlib.sha256(url.encode()).hexdigest() for url in urls]
    columns = {
        "row_id": pa.array(row_ids, pa.int64()),
        "url": pa.array(urls),
        "key": pa.array(keys),
        "status": pa.array(["success" if is_good else "failed_to_download" for is_good in good]),
        "error_message": pa.array([None if is_good else "HTTP Error 404: Not Found" for is_good in good], pa.string()),
        "width": pa.array([256 if is_good else None for is_good in good], pa.int32()),
        "height": pa.array([256 if is_good else None for is_good in good], pa.int32()),
        "sha256": pa.array([one if is_good else None for one, is_good in zip(sums, good, strict=True)]),
    }
    pq.write_table(pa.table(columns), images / f"{name}.parquet")
    write_json(images / f"{name}_stats.json", {"count": len(good), "successes": sum(good)})
    kept = [(row, one) for row, one, is_good in zip(row_ids, sums, good, strict=True) if is_good]
    lost = {"http_404": len(good) - len(kept)} if len(good) > len(kept) else {}
    digest = hashlib.sha256(tar.read_bytes()).hexdigest()
    shard = Shard(name, len(good), len(kept), lost, tar.stat().st_size, digest, rows_fingerprint(kept))
    note_shard(images, shard)
    return shard


def _stage(folder: Path, name: str) -> Cost:
    command = [sys.executable, "-m", f"pipelines.{name}", *([] if name in ("select", "index") else [CORPUS])]
    environment = {**os.environ, "CAFT_STORAGE": str(folder), "PYTHONPATH": str(PROJECT)}
    begun = time.monotonic()
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        highest = 0
        worked: dict[int, float] = {}
        try:
            while process.poll() is None:
                found = list(_family(process.pid))
                highest = max(highest, sum(memory for _, _, memory in found))
                worked |= {one: seconds for one, seconds, _ in found}
                time.sleep(0.5)
        finally:
            process.kill()
    assert process.returncode == 0, (folder / f"{name}.log").read_text()[-3000:]
    return Cost(time.monotonic() - begun, sum(worked.values()), highest)


def _family(process: int) -> Iterator[tuple[int, float, int]]:
    """Id, seconds of processor time so far and memory of each process of a tree."""
    try:
        family = [psutil.Process(process), *psutil.Process(process).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            with member.oneshot():
                used = member.cpu_times()
                yield member.pid, used.user + used.system, member.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.ZombieProcess, FileNotFoundError):
            pass


def table(found: dict[int, dict[str, Cost]]) -> str:
    """Seconds (and of all processors), megabytes of each stage, in Markdown; a row for each number of captions."""
    lines = ["| rows | " + " | ".join(STAGES) + " |", "| --- " * (len(STAGES) + 1) + "|"]
    for rows, costs in found.items():
        own = [costs[name] for name in STAGES]
        cells = [f"{cost.seconds:.0f} s ({cost.processor:.0f} s), {cost.memory / 1e6:.0f} MB" for cost in own]
        lines.append(f"| {rows:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(sizes: list[int]) -> None:
    """Prints the table, and what it would be at 27 million rows if it grew as from the first size to the last."""
    found: dict[int, dict[str, Cost]] = {}
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            found[rows] = run(Path(folder), rows)
        print(table({rows: found[rows]}), flush=True)
    if len(sizes) > 1:
        few, many = found[sizes[0]], found[sizes[-1]]
        for name in STAGES:
            slope = (many[name].processor - few[name].processor) / (sizes[-1] - sizes[0])
            hours = 27e6 * slope / 3600
            print(
                f"{name}: {1e6 * slope:.0f} processor seconds for each further million rows, {hours:.1f} h for 27 million"
            )


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]] or [100_000, 1_000_000])
