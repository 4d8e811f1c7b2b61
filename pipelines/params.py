"""Prints the effective settings with the origin of each, or the difference of two recipes."""

import argparse
import sys

from caft.errors import CaftError
from caft.params import load_params


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.params", description=__doc__)
    parser.add_argument("--params", default="params.yaml", help="settings file (params.yaml)")
    parser.add_argument("--overlay", action="append", default=[], help="settings merged over it; may be repeated")
    parser.add_argument("--compare", nargs=2, metavar="RECIPE", help="print where two recipes differ")
    arguments = parser.parse_args()
    try:
        params = load_params(arguments.params, arguments.overlay)
        if arguments.compare:
            for name in arguments.compare:
                if name not in params.recipes:
                    raise CaftError(f"recipe '{name}' is unknown; known are {', '.join(params.recipes)}")
            first, second = (params.recipes[name].model_dump() for name in arguments.compare)
            rows = [(key, str(first[key]), str(second[key])) for key in first if first[key] != second[key]]
            header = ("key", *arguments.compare)
        else:
            rows = [(key, str(value), origin) for key, (value, origin) in params.effective().items()]
            header = ("key", "value", "origin")
    except CaftError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(3)]
    for row in [header, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
