"""Stage evaluate_regions: FG-OVD, one description of a box among hard negatives."""

import argparse

from caft.eval.place import place_of
from caft.eval.scores.metrics import publish
from caft.eval.scores.regions import score_benchmarks
from caft.params import Params
from pipelines.stage import run


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    place = place_of(arguments)
    model = place.model(params)
    of_set = score_benchmarks(params, model, place.leaked())
    # The first set of the settings is the file's own; others are nested by name.
    scores = {key: value for found in list(of_set.values())[:1] for key, value in found.items()}
    scores |= dict(list(of_set.items())[1:])
    publish(params, model.card, place.metrics / "regions.json", scores)
    for name, found in of_set.items():
        if "rows" in found:
            levels = [key.removesuffix("_chance") for key in found if key.endswith("_chance")]
            shown = ", ".join(f"{level} {found[level]:.1f} (chance {found[f'{level}_chance']:.1f})" for level in levels)
            print(f"{name:>12} {shown}")


if __name__ == "__main__":
    run(main, external=True)
