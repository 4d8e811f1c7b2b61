"""Stage captions@CORPUS: captions joined to images by row, one Parquet table a tar."""

import argparse
import json
import logging
from pathlib import Path

from caft.data.crawl.fetch import ensure_images
from caft.data.crawl.manifest import read_manifest
from caft.data.tables.recaption import join_captions
from caft.data.tables.schema import CAPTIONS
from caft.data.tables.work import content_fingerprint, move_to, resumable
from caft.params import Params
from caft.storage import images_folder, scratch_folder, write_json
from pipelines.stage import run

logger = logging.getLogger(__name__)


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    corpus: str = arguments.corpus
    manifest = read_manifest(Path(f"data/images/{corpus}.json")).as_json()
    ensure_images(params, corpus, manifest)
    urls, counted = (Path(f"data/{folder}/{corpus}.parquet").resolve() for folder in ("urls", "images"))
    # Outside DVC, which removes a stage's outs before it runs: what a killed run finished is used, if made from the
    # same tars and captions.
    made_from = json.dumps([manifest["shards"], content_fingerprint(urls, counted), str(CAPTIONS)])
    folder = scratch_folder(params, "captions") / corpus
    with resumable(folder, made_from, "joining captions") as work:
        images, memory = images_folder(params, corpus), params.storage.memory_gb
        summary = join_captions(manifest, images, urls, work, memory, counted)
        # Beside the folder, which holds tables alone: `read_parquet(folder)` of other programs takes every file in it.
        write_json(f"data/captions/{corpus}.json", summary)
        move_to(Path("data/captions") / corpus, work)  # the last, as it cannot be taken up again
    logger.info("%s: %d images have their captions", corpus, summary["rows_out"])


if __name__ == "__main__":
    run(main, corpus=True)
