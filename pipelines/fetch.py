"""Stage fetch@CORPUS: images by their URLs into tars outside DVC; the manifest of them is the stage's out."""

import argparse
import logging
from pathlib import Path

from caft.data.crawl.fetch import erase, fetch, fetch_part
from caft.data.crawl.manifest import notes_folder
from caft.data.crawl.repeats import repeated_pictures
from caft.data.crawl.rows import counted_table
from caft.params import Params
from caft.params.corpora import ScenesCorpus
from caft.storage import images_folder, write_json
from pipelines.stage import run

logger = logging.getLogger(__name__)
_FEW = 3  # addresses of one picture that are nothing to speak of: sizes, mirrors


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    corpus: str = arguments.corpus
    urls = Path(f"data/urls/{corpus}.parquet")
    manifest = erase(params, corpus, urls) if arguments.erase else fetch(params, corpus, urls, arguments.retry)
    write_json(f"data/images/{corpus}.json", manifest)
    came, entry = manifest["successes"], params.corpus[corpus]
    logger.info("%s: %d of %d images; lost: %s", corpus, came, manifest["rows"], manifest["lost"])
    if not isinstance(entry, ScenesCorpus):
        share, expected = 100 * came / entry.expected_images, entry.expected_images
        logger.info("%s: %.1f%% of the %d images that the paper had, or that you expect", corpus, share, expected)
    warn_of_repeats(params, corpus)


def warn_of_repeats(params: Params, corpus: str) -> None:
    """Says if one picture came for many addresses: hosts answer so where the picture asked for is gone."""
    folder = images_folder(params, corpus)
    tables, memory = [counted_table(folder)], params.storage.memory_gb
    if copies := repeated_pictures(tables, _FEW, notes_folder(folder), memory):
        picture, rows = next(iter(copies.items()))
        logger.warning(
            "%s: %d pictures came for more than %d addresses each, %d images in all; the most frequent for %d (SHA-256 %s). "
            "Hosts answer so where a picture is gone; to train without them, set data.repeated_images: drop_above %d",
            *(corpus, len(copies), _FEW, sum(copies.values()), rows, picture[:12], _FEW),
        )


def part(params: Params, arguments: argparse.Namespace, number: int, parts: int) -> None:
    """One of the parts that several machines share; the stage itself comes after them."""
    if not arguments.erase:
        fetch_part(params, arguments.corpus, Path(f"data/urls/{arguments.corpus}.parquet"), number, parts)


def more_arguments(parser: argparse.ArgumentParser) -> None:
    """Lost rows can be tried again, and pictures of rows that went be erased."""
    words = (
        "try lost rows again: for these causes of data/images/CORPUS.json, or for all but opt_out; comes after CORPUS"
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--retry", nargs="*", metavar="CAUSE", help=words)
    words = "rewrite the tars without pictures that no row of the table has any more; then run `dvc repro`"
    either.add_argument("--erase", action="store_true", help=words)


if __name__ == "__main__":
    run(main, corpus=True, more=more_arguments)
