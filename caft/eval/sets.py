"""The evaluation sets of the settings, one after the other; a set that is not there has `not_run` in place of scores."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from caft.data.sets import Missing, folder_of
from caft.errors import DataError
from caft.eval.leaked import Leaked
from caft.eval.without import twice
from caft.params import Params
from caft.params.sets import BenchmarkParams

logger = logging.getLogger(__name__)

T = TypeVar("T")
Loader = Callable[[BenchmarkParams], T | Missing]


def each_set(params: Params, loaders: Mapping[str, Loader[T]]) -> Iterator[tuple[str, T | Missing]]:
    """Yields name and content of each set of the kinds that have a loader, in the order of the settings.

    Raises:
        DataError: A set is damaged, or has items that cannot be scored; it says which.
    """
    for name, benchmark in params.benchmarks.items():
        if load := loaders.get(benchmark.kind):
            yield name, _loaded(name, benchmark, load)


def _loaded(name: str, benchmark: BenchmarkParams, load: Loader[T]) -> T | Missing:
    try:
        return load(benchmark)
    except DataError as error:
        raise DataError(f"benchmark {name}: {error}") from error


def present_sets(params: Params, loaders: Mapping[str, Loader[T]]) -> Iterator[tuple[str, T]]:
    """As `each_set`, of those that are there."""
    for name, loaded in each_set(params, loaders):
        if not isinstance(loaded, Missing):
            yield name, loaded


def score_sets(
    params: Params,
    loaders: Mapping[str, Loader[Any]],
    score: Callable[[str, Any], dict[str, Any]],
    leaked: Leaked | None = None,
) -> dict[str, Any]:
    """Returns by name what `score` gives for the name and content of each set, or `{"not_run": reason}`.

    What is left out of a set stands beside its scores, as `LeftOut.record` has it. With `leaked`, images by set that were
    trained on, a set that has some is scored without them too, as `caft.eval.without.twice` has it. All sets are read before
    the first is scored, so that what is wrong with any is found at once.

    Raises:
        DataError: Sets are damaged, or have items that cannot be scored; it names them all.
    """
    sets: dict[str, Any] = {}
    refused: dict[str, DataError] = {}
    for name, benchmark in params.benchmarks.items():
        if load := loaders.get(benchmark.kind):
            try:
                sets[name] = _loaded(name, benchmark, load)
            except DataError as error:
                refused[name] = error
    if refused:
        first, *others = refused
        more = f"\nrefused too: {', '.join(others)}; see `python -m pipelines.sets --check`" if others else ""
        raise DataError(f"{refused[first]}{more}")
    scores: dict[str, Any] = {}
    for name, loaded in sets.items():
        if isinstance(loaded, Missing):
            logger.warning("%s is not run: %s", name, loaded.reason)
            scores[name] = {"not_run": loaded.reason}
        else:
            left_out = loaded.left_out.record()
            if left_out:
                logger.warning("%s: %s", name, left_out)
            if leaked is None:
                scores[name] = score(name, loaded) | left_out
            else:
                folder = folder_of(params.benchmarks[name])
                scores[name] = twice(score, name, loaded, folder, leaked) | left_out
    return scores
