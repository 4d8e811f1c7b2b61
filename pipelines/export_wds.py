"""Writes a corpus as webdataset tars that open_clip, FLAIR and others train on: picture, raw caption, all captions as JSON.

Run it after `dvc repro captions@CORPUS`. docs/peers.md shows how the tars are used.
"""

import argparse
import logging
from pathlib import Path

from caft.data.crawl.fetch import ensure_images
from caft.data.export.tars import export_tars
from caft.params import Params
from caft.storage import images_folder, read_json
from pipelines.index import check_manifest
from pipelines.stage import run

logger = logging.getLogger(__name__)


def more_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to."""
    parser.add_argument("-o", dest="folder", type=Path, required=True, metavar="FOLDER", help="the folder to write")


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the command."""
    corpus: str = arguments.corpus
    ensure_images(params, corpus, read_json(f"data/images/{corpus}.json", f"fetch@{corpus}"))
    check_manifest(corpus)
    counts = export_tars(images_folder(params, corpus), Path("data/captions") / corpus, arguments.folder)
    logger.info(
        "%s: %d samples of %s; %d have no raw caption, so that their text is their first other; %d pictures were written anew",
        *(arguments.folder, counts.samples, corpus, counts.without_raw, counts.rewritten),
    )


if __name__ == "__main__":
    run(main, corpus=True, more=more_arguments)
