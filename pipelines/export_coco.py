"""Writes a retrieval set of the settings in the form of MS-COCO's captions, as clip-benchmark reads it without loss.

docs/quickstart.md shows how it is scored there.
"""

import argparse
import logging
from pathlib import Path

from caft.data.export.coco import export_coco
from caft.data.sets import Missing, load_retrieval
from caft.errors import DataError
from caft.params import Params
from pipelines.stage import run

logger = logging.getLogger(__name__)


def more_arguments(parser: argparse.ArgumentParser) -> None:
    """Which set, and where to."""
    parser.add_argument("name", help="a retrieval set of the table `benchmarks`")
    parser.add_argument("-o", dest="folder", type=Path, required=True, metavar="FOLDER", help="the folder to write")


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the command.

    Raises:
        DataError: The set is no retrieval set, or not there.
    """
    known = [name for name, benchmark in params.benchmarks.items() if benchmark.kind == "retrieval"]
    if arguments.name not in known:
        raise DataError(f"{arguments.name}: is no retrieval set of {arguments.params}; known are {', '.join(known)}")
    loaded = load_retrieval(params.benchmarks[arguments.name])
    if isinstance(loaded, Missing):
        raise DataError(f"{arguments.name}: {loaded.reason}")
    rewritten = export_coco(loaded, arguments.folder)
    logger.info(
        "%s: %d captions of %d images; %d of these were written anew",
        *(arguments.folder, len(loaded.captions), len(loaded.images), rewritten),
    )


if __name__ == "__main__":
    run(main, more=more_arguments)
