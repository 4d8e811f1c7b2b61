"""Stage weights of pipelines/score: which weights are given, and which sets are there; the scores depend on both."""

import argparse
import hashlib
import logging
from dataclasses import asdict
from pathlib import Path

from caft import storage
from caft.eval.given import describe, settings_of
from caft.params import Params
from pipelines.place import WEIGHTS
from pipelines.stage import run

logger = logging.getLogger(__name__)
_TEXT = {".csv", ".json", ".jsonl", ".jsonlines", ".p", ".txt"}
_SMALL = 2**20  # bytes; of larger files the size must do, for some sets have gigabytes


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    first, *more = [asdict(describe(setting)) for setting in settings_of(params)]
    for given in (first, *more):
        logger.info("%s: %s, sha256 %s, trained on %s", given["name"], given["kind"], given["sha256"], given["size"])
    storage.write_json(WEIGHTS, {**first, "more": more})
    # Not a dependency of DVC's: that would run the stages of the root graph that render a set.
    sets = {name: _fingerprint(Path(benchmark.path)) for name, benchmark in params.benchmarks.items()}
    storage.write_json(WEIGHTS.with_name("sets.json"), sets)


def _fingerprint(folder: Path) -> str | None:
    """Of the names and sizes of a set's files, and of the content of its texts; None where it is not there."""
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            size = path.stat().st_size
            digest.update(f"{path.relative_to(folder)} {size}\n".encode())
            if path.suffix in _TEXT and size <= _SMALL:
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    run(main)
