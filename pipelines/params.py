"""Prints the effective settings with the origin of each, or the difference of two recipes."""

import argparse

from caft.errors import ParamsError
from caft.params import Params, flat
from caft.params.problems import show
from caft.params.recipes import RecipeParams
from pipelines.stage import run


def arguments_of_a_table(parser: argparse.ArgumentParser) -> None:
    """Arguments beyond those of every stage."""
    parser.add_argument("--compare", nargs=2, metavar="RECIPE", help="print where two recipes differ")


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the command."""
    if arguments.compare:
        rows = compare(params, *arguments.compare)
    else:
        effective = params.effective().items()
        rows = [("key", "value", "origin"), *((key, show(value), origin) for key, (value, origin) in effective)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def compare(params: Params, first: str, second: str) -> list[tuple[str, str, str]]:
    """Rows of the settings in which two recipes differ, in general and on single corpora, under a header.

    Raises:
        ParamsError: A recipe is not in the table.
    """
    for name in (first, second):
        if name not in params.recipes:
            raise ParamsError(f"--compare {name}: no such recipe; known are {', '.join(params.recipes)}")
    recipes = [params.recipes[name] for name in (first, second)]
    general = _pairs(*recipes)
    rows = [(key, *pair) for key, pair in general.items() if pair[0] != pair[1]]
    named = {frozenset(key.split("+")): key for recipe in reversed(recipes) for key in recipe.per_corpora}
    for corpora, key in sorted(named.items(), key=lambda item: len(item[0])):
        own = _pairs(*(recipe.for_corpora(list(corpora)) for recipe in recipes))
        rows += [
            (f"{name} on {key}", *pair)
            for name, pair in own.items()
            if pair != general[name] and (pair[0] != pair[1] or general[name][0] != general[name][1])
        ]
    return [("key", first, second), *rows]


def _pairs(one: RecipeParams, other: RecipeParams) -> dict[str, tuple[str, str]]:
    """Both values of every setting, as they are shown."""
    values = dict(flat(other.model_dump()))
    return {key: (show(value), show(values[key])) for key, value in flat(one.model_dump())}


if __name__ == "__main__":
    run(main, more=arguments_of_a_table)
