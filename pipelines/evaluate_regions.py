"""Stage evaluate_regions: FG-OVD, one description of a box among hard negatives."""

import argparse
import logging
from typing import Any

from caft.data.sets import Missing, load_regions
from caft.eval.scores.features import load_model
from caft.eval.scores.metrics import counted, publish
from caft.eval.scores.regions import score_regions
from caft.model.maps import NO_PART_LEVEL, part_network
from caft.params import Params
from pipelines.place import place_of
from pipelines.stage import run

logger = logging.getLogger(__name__)


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    place = place_of(arguments)
    model = place.given(params) or load_model()
    network = part_network(model)
    of_set: dict[str, dict[str, Any]] = {}
    for name, benchmark in params.benchmarks.items():
        if benchmark.kind != "regions":
            continue
        loaded = load_regions(benchmark) if network else Missing(NO_PART_LEVEL)
        if isinstance(loaded, Missing):
            logger.warning("%s is not run: %s", name, loaded.reason)
            of_set[name] = {"not_run": loaded.reason}
        else:
            assert network is not None
            found = score_regions(
                network, loaded, params.evaluation.batch, params.evaluation.membership, params.evaluation.box_mode
            )
            of_set[name] = found | {"skipped": loaded.skipped} if loaded.skipped else found
            for level, rows in loaded.regions.items():
                counts = counted(f"{level}_rows", len(rows), loaded.expected.get(level))
                of_set[name] |= counts if len(counts) > 1 else {}
    # The first set of the table is the file's own; others are nested by name.
    scores: dict[str, Any] = {}
    for number, (name, found) in enumerate(of_set.items()):
        scores.update(found if number == 0 else {name: found})
    publish(params, model.card, place.metrics / "regions.json", scores)
    for name, found in of_set.items():
        if "rows" in found:
            levels = [key.removesuffix("_chance") for key in found if key.endswith("_chance")]
            shown = ", ".join(f"{level} {found[level]:.1f} (chance {found[f'{level}_chance']:.1f})" for level in levels)
            print(f"{name:>12} {shown}")


if __name__ == "__main__":
    run(main, external=True)
