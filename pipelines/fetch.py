"""Stage fetch@CORPUS: images by their URLs into tars outside DVC; the manifest of them is the stage's out."""

import argparse
import logging
from pathlib import Path

from caft.data.crawl.fetch import fetch, fetch_part
from caft.params import Params
from caft.params.corpora import ScenesCorpus
from caft.storage import write_json
from pipelines.stage import run

logger = logging.getLogger(__name__)


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    corpus: str = arguments.corpus
    manifest = fetch(params, corpus, Path(f"data/urls/{corpus}.parquet"))
    write_json(f"data/images/{corpus}.json", manifest)
    came, entry = manifest["successes"], params.corpus[corpus]
    logger.info("%s: %d of %d images; lost: %s", corpus, came, manifest["rows"], manifest["lost"])
    if not isinstance(entry, ScenesCorpus):
        share, expected = 100 * came / entry.expected_images, entry.expected_images
        logger.info("%s: %.1f%% of the %d images that the paper had, or that you expect", corpus, share, expected)


def part(params: Params, arguments: argparse.Namespace, number: int, parts: int) -> None:
    """One of the parts that several machines share; the stage itself comes after them."""
    fetch_part(params, arguments.corpus, Path(f"data/urls/{arguments.corpus}.parquet"), number, parts)


if __name__ == "__main__":
    run(main, corpus=True)
