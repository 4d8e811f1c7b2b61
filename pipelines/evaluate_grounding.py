"""Stage evaluate_grounding: referring segmentation from attention maps, without mask training."""

import argparse
import logging
from typing import Any

from caft.data.benchmarks import Missing, load_referring
from caft.eval.features import load_model
from caft.eval.metrics import counted, publish
from caft.eval.referring import score_referring
from caft.inference import NO_PART_LEVEL
from caft.params import Params
from pipelines.place import place_of
from pipelines.stage import run

logger = logging.getLogger(__name__)


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    place = place_of(arguments)
    model = place.given(params) or load_model()
    scores: dict[str, Any] = {}
    for name, benchmark in params.benchmarks.items():
        if benchmark.kind != "referring":
            continue
        loaded = load_referring(benchmark) if model.has_part else Missing(NO_PART_LEVEL)
        if isinstance(loaded, Missing):
            logger.warning("%s is not run: %s", name, loaded.reason)
            scores[name] = {"not_run": loaded.reason}
            continue
        found = score_referring(model, loaded, params.evaluation.batch, params.evaluation.membership)
        expressions = sum(len(image.expressions) for image in loaded.images)
        scores[name] = found | counted("expressions", expressions, loaded.expected)
    publish(params, model.card, place.metrics / "grounding.json", scores)
    for name, found in scores.items():
        if "miou" in found:
            print(
                f"{name:>12} mIoU {found['miou']:5.1f}, wrong expression {found['miou_wrong_expression'] or 0:5.1f}, "
                f"all objects {found['miou_all_foreground']:5.1f}, pointing {found['pointing']:5.1f}"
            )


if __name__ == "__main__":
    run(main, external=True)
