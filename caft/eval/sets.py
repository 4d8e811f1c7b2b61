"""The evaluation sets of the settings, one after the other; a set that is not there has `not_run` in place of scores."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from caft.data.sets import Missing
from caft.params import Params
from caft.params.sets import BenchmarkParams

logger = logging.getLogger(__name__)
_TEXT = {".csv", ".json", ".jsonl", ".jsonlines", ".p", ".txt"}
_SMALL = 2**20  # bytes; larger files are told apart by their size alone, for some sets have gigabytes

T = TypeVar("T")
Loader = Callable[[BenchmarkParams], T | Missing]


def each_set(params: Params, loaders: Mapping[str, Loader[T]]) -> Iterator[tuple[str, T | Missing]]:
    """Yields name and content of each set of the kinds that have a loader, in the order of the settings."""
    for name, benchmark in params.benchmarks.items():
        if load := loaders.get(benchmark.kind):
            yield name, load(benchmark)


def present_sets(params: Params, loaders: Mapping[str, Loader[T]]) -> Iterator[tuple[str, T]]:
    """As `each_set`, of those that are there."""
    for name, loaded in each_set(params, loaders):
        if not isinstance(loaded, Missing):
            yield name, loaded


def score_sets(
    params: Params, loaders: Mapping[str, Loader[Any]], score: Callable[[str, Any], dict[str, Any]]
) -> dict[str, Any]:
    """Returns by name what `score` gives for the name and content of each set, or `{"not_run": reason}`."""
    scores: dict[str, Any] = {}
    for name, loaded in each_set(params, loaders):
        if isinstance(loaded, Missing):
            logger.warning("%s is not run: %s", name, loaded.reason)
            scores[name] = {"not_run": loaded.reason}
        else:
            scores[name] = score(name, loaded)
    return scores


def files_digest(folder: Path) -> str | None:
    """Returns a digest of the names and sizes of a set's files and the content of its texts; None without the folder."""
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
