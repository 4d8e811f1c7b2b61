"""Lists the evaluation sets of the settings; with --check reads them, and lists what in them cannot be scored.

Pictures are looked for and their headers and ends read; unusual ones are decoded. Exit code 2 if a set that is there
would be refused.
"""

import argparse
import logging
from collections.abc import Sequence

from caft.data.sets import (
    LOADERS,
    AnySet,
    BadItemsError,
    CompositionSet,
    Missing,
    ReferringSet,
    RegionSet,
    SegmentationSet,
    ZeroShotSet,
    folder_of,
)
from caft.data.sets.findings import BadItem, by_kind
from caft.errors import DataError
from caft.params import Params
from caft.params.sets import BenchmarkParams
from pipelines.stage import run

# Bad items of a kind that are listed.
SHOWN = 50


def arguments_of_a_check(parser: argparse.ArgumentParser) -> None:
    """Arguments beyond those of every stage."""
    parser.add_argument("--check", action="store_true", help="read the sets that are there, and list their bad items")


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the command.

    Raises:
        DataError: A set that is there would be refused; what is wrong with it has been printed.
    """
    logging.getLogger("caft").setLevel(logging.ERROR)  # what the sets have to say is printed here
    refused = []
    width = max(map(len, params.benchmarks), default=0)
    for name, benchmark in params.benchmarks.items():
        if not arguments.check:
            place = folder_of(benchmark)
            print(f"{name:<{width}}  {benchmark.kind:<12}  {place}{'' if place.exists() else ': not there'}")
            continue
        state, lines = told(benchmark)
        print("\n".join([f"{name:<{width}}  {state}", *(f"{'':<{width}}    {line}" for line in lines)]), flush=True)
        if state.startswith("REFUSED"):
            refused.append(name)
    if refused:
        raise DataError(
            f"{len(refused)} of {len(params.benchmarks)} evaluation sets would be refused: {', '.join(refused)}; mend what "
            "is listed above, set `partial: true` in a set's entry to score the rest, or move its folder away"
        )


def told(benchmark: BenchmarkParams) -> tuple[str, list[str]]:
    """State of a set in a few words, and lines on what is to be known of it."""
    try:
        found = LOADERS[benchmark.kind](benchmark)
    except BadItemsError as error:
        return "REFUSED", [*error.counts, *listed(error.items)]
    except (DataError, OSError) as error:
        return "REFUSED", str(error).splitlines()
    if isinstance(found, Missing):
        return f"not there: {found.reason}", []
    left_out = found.left_out
    lines = [f"{level}: {reason}" for level, reason in found.skipped.items()] if isinstance(found, RegionSet) else []
    if left_out.skipped_objects:
        lines.append(f"{left_out.skipped_objects} objects that no expression means have no mask; controls go without")
    if left_out.turned:
        lines.append(f"{left_out.turned} pictures are turned, for their recorded size fits only then")
    partial = f", without {len(left_out.items)} bad items" if left_out.items else ""
    return f"there: {counts(found, benchmark)}{partial}", [*lines, *listed(left_out.items)]


def counts(found: AnySet, benchmark: BenchmarkParams) -> str:
    """How much of a set is there, of how much its publisher counts."""
    if isinstance(found, RegionSet):
        of_level = (_of(len(rows), found.expected.get(level), level) for level, rows in found.regions.items())
        return ", ".join(of_level)
    if isinstance(found, ReferringSet):
        expressions = sum(len(image.expressions) for image in found.images)
        return (
            f"{_of(expressions, found.expected, 'expressions')} on {_of(len(found.images), benchmark.images, 'images')}"
        )
    if isinstance(found, CompositionSet):
        return f"{_of(len(found.questions), found.expected, 'questions')} on {len(found.images):,} images"
    if isinstance(found, ZeroShotSet | SegmentationSet):
        return f"{_of(len(found.images), found.expected, 'images')} of {len(found.classes)} classes"
    return _of(len(found.captions), found.expected, "pairs")


def _of(found: int, expected: int | None, what: str) -> str:
    return f"{found:,} {what}" if expected in (None, found) else f"{found:,} of {expected:,} {what}"


def listed(items: Sequence[BadItem]) -> list[str]:
    """Bad items by kind, each with what the set calls it."""
    lines = []
    for kind, found in by_kind(items).items():
        lines.append(f"{kind}: {len(found)}")
        lines += [f"  {item}" for item in found[:SHOWN]]
        lines += [f"  and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return lines


if __name__ == "__main__":
    run(main, more=arguments_of_a_check)
