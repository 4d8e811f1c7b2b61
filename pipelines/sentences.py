"""Stage sentences@CORPUS: sentence spans and token ids of every caption, by both splitters."""

import argparse
import json
import logging
from pathlib import Path

from caft.captions.sentences import versions
from caft.data.tables.cluster import ray_tasks
from caft.data.tables.sentence_table import summarize, write_sentences
from caft.data.tables.work import content_fingerprint, move_to, resumable
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
        counts = ray_tasks(_split, todo, "sentence shards")
        summary = summarize(captions, work)
        write_json(f"data/sentences/{corpus}.json", summary)  # beside the folder, which holds tables alone
        move_to(Path("data/sentences") / corpus, work)
    logger.info("%s: %d rows", corpus, summary["rows_out"])
    characters, asked = (sum(count[key] for count in counts) for key in ("characters", "asked"))
    if characters:
        logger.info("%s: spaCy was asked about %.1f%% of the characters", corpus, 100 * asked / characters)
    for splitter, cut in summary["cut"].items():
        logger.warning(
            "%s: of %d sentences (%s) the last tokens are never read, %d in all: a text has 75 at most",
            *(corpus, cut["sentences"], splitter, cut["tokens"]),
        )


def _split(paths: tuple[str, str]) -> dict[str, int]:
    return write_sentences(Path(paths[0]), Path(paths[1]))


if __name__ == "__main__":
    run(main, corpus=True)
