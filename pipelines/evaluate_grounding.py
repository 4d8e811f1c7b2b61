"""Stage evaluate_grounding: referring and semantic segmentation, without mask training."""

import argparse

from caft.eval.place import place_of
from caft.eval.scores.metrics import publish
from caft.eval.scores.referring_sets import score_benchmarks, write_expressions
from caft.params import Params
from pipelines.stage import run


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    place = place_of(arguments)
    model = place.model(params)
    scores, rows = score_benchmarks(params, model, place.leaked())
    write_expressions(place.reports / "expressions", rows)
    publish(params, model.card, place.metrics / "grounding.json", scores)
    for name, found in scores.items():
        for way, accuracy in found.get("segmentation", {}).items():
            print(f"{name:>12} mIoU {accuracy['miou']:5.1f} by {way}, pixels {accuracy['pixel_accuracy']:5.1f}")
        if "miou" in found:
            print(
                f"{name:>12} mIoU {found['miou']:5.1f}, wrong expression {found['miou_wrong_expression'] or 0:5.1f}, "
                f"all objects {found['miou_all_foreground']:5.1f}, pointing {found['pointing']:5.1f}, "
                f"match AUROC {found['match']['auroc']['all']:5.1f}"
            )


if __name__ == "__main__":
    run(main, external=True)
