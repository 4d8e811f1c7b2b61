"""Stage sentences@CORPUS: sentence spans and token ids of every caption, by both splitters."""

import argparse
import json
import logging
from pathlib import Path

from caft.captions.sentences import versions
from caft.data.tables.cluster import ray_tasks
from caft.data.tables.recaption import publish, resumable
from caft.data.tables.selection import content_fingerprint
from caft.data.tables.sentence_table import write_shard
from caft.errors import DataError
from caft.params import Params
from caft.storage import scratch_folder, write_json
from pipelines.stage import run

logger = logging.getLogger(__name__)


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    corpus: str = arguments.corpus
    captions = Path("data/captions") / corpus
    shards = sorted(captions.glob("[0-9]*.parquet"))
    if not shards:
        raise DataError(f"{captions}: holds no table; run `dvc repro captions@{corpus}`")
    # What a killed run has finished is taken up only if made from the same captions by the same rules.
    made_from = content_fingerprint(captions) + json.dumps(versions())
    with resumable(scratch_folder(params, "sentences") / corpus, made_from, "splitting captions") as work:
        todo = [(str(path.resolve()), str(work / path.name)) for path in shards if not (work / path.name).exists()]
        ray_tasks(_split, todo, "sentence shards")
        publish_summary(corpus, captions, work)
        publish(work, Path("data/sentences") / corpus)


def _split(paths: tuple[str, str]) -> dict[str, int]:
    return write_shard(Path(paths[0]), Path(paths[1]))


def publish_summary(corpus: str, captions: Path, work: Path) -> None:
    """Counts rows in and out."""
    import pyarrow.parquet as pq

    rows_in, rows_out = (
        sum(pq.read_metadata(path).num_rows for path in folder.glob("[0-9]*.parquet")) for folder in (captions, work)
    )
    if rows_in != rows_out:
        raise DataError(f"{work}: {rows_out} rows for {rows_in} in {captions}; remove the folder and run again")
    write_json(work / "_summary.json", {"rows_in": rows_in, "rows_out": rows_out, "dropped": {}})
    logger.info("%s: %d rows", corpus, rows_out)


if __name__ == "__main__":
    run(main, corpus=True)
