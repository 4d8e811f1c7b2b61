"""Measures the step on a GPU, in half precision and in float32, and prints the rows of README.md's GPU column."""

import argparse
import datetime
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import step
from caft.errors import CaftError


def main(given: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the command (cuda)")
    parser.add_argument("--model", default="base", metavar="NAME", help="a key of models in params.yaml (base)")
    parser.add_argument("--batch", type=int, default=128, metavar="N", help="images of one rank (128)")
    parser.add_argument("--repetitions", type=int, default=5, metavar="N", help="steps; the fastest counts (5)")
    arguments = parser.parse_args(given)
    shared = [f"--{key}={getattr(arguments, key)}" for key in ("device", "model", "batch", "repetitions")]
    try:
        found = {
            dtype: step.measured([*shared, f"--dtype={dtype}", "--alone", "--flair"]) for dtype in ("bf16", "float32")
        }
    except CaftError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    for result in found.values():
        print("\n".join(step.page(result)), end="\n\n")
    print("\n".join(table(found)))


def table(found: dict[str, dict[str, Any]]) -> list[str]:
    """Markdown: one row a figure, one column a precision."""
    first = next(iter(found.values()))
    rows: dict[str, list[str]] = {
        "whole step": [_pair(result["ratio"]) for result in found.values()],
        "text tower": [f"{result['text_ratio']:.2f}" for result in found.values()],
        "against FLAIR": [_pair(result["flair"]) for result in found.values()],
        **{f"only {name}": [_pair(result["alone"][name]) for result in found.values()] for name in first["alone"]},
        "images/s": [f"{result['images_per_s']:.1f}" for result in found.values()],
    }
    settings = first["settings"]
    return [
        f"{first['machine']}; {datetime.datetime.now(datetime.UTC).date()}; {settings['model']}, batch {settings['batch']}",
        "",
        f"| ratio of time, of memory | {' | '.join(found)} |",
        f"| --- |{' --- |' * len(found)}",
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()),
    ]


def _pair(ratio: dict[str, float]) -> str:
    return f"{ratio['time']:.2f}, {ratio['memory']:.2f}"


if __name__ == "__main__":
    main()
