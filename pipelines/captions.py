"""Stage captions@CORPUS: captions joined to images by row, one Parquet table a tar."""

import argparse
import json
import logging
from pathlib import Path

from caft.data.fetch import ensure_images
from caft.data.recaption import join_captions, publish
from caft.params import Params
from caft.storage import images_folder, root
from pipelines.stage import run

logger = logging.getLogger(__name__)


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    corpus: str = arguments.corpus
    manifest = json.loads(Path(f"data/images/{corpus}.json").read_text())
    ensure_images(params, corpus, manifest)
    # Outside DVC, which removes a stage's outs before it runs: what a killed run finished is used.
    work = root(params) / "work" / "captions" / f"{corpus}-{manifest['fingerprint'][:16]}"
    urls = Path(f"data/urls/{corpus}.parquet").resolve()
    summary = join_captions(manifest, images_folder(params, corpus), urls, work)
    publish(work, Path("data/captions") / corpus)
    logger.info("%s: %s", corpus, summary)


if __name__ == "__main__":
    run(main, corpus=True)
