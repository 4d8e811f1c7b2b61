"""Stage evaluate_retrieval: retrieval by the whole score, the part score and their blends (CAFT++); zero-shot classes."""

import argparse
import csv
import logging
from typing import Any

from caft import storage
from caft.data.benchmarks import Missing, RetrievalSet, ZeroShotSet, load_retrieval, load_zero_shot
from caft.eval.features import load_model
from caft.eval.metrics import counted, publish
from caft.eval.retrieval import recall_at_k, tied_rows
from caft.eval.zero_shot import score_zero_shot
from caft.inference import encode_captions, encode_images
from caft.model import CAFT
from caft.params import EvaluationParams, Params
from caft.similarity import blend, part_scores, whole_scores
from pipelines.place import place_of
from pipelines.stage import run

logger = logging.getLogger(__name__)
WEIGHTS = [number / 10 for number in range(11)]


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    place = place_of(arguments)
    model = place.given(params) or load_model()
    scores: dict[str, Any] = {}
    curve: list[dict[str, Any]] = []
    for name, benchmark in params.benchmarks.items():
        if benchmark.kind not in ("retrieval", "zero_shot"):
            continue
        loaded = load_retrieval(benchmark) if benchmark.kind == "retrieval" else load_zero_shot(benchmark)
        if isinstance(loaded, Missing):
            logger.warning("%s is not run: %s", name, loaded.reason)
            scores[name] = {"not_run": loaded.reason}
            continue
        if isinstance(loaded, ZeroShotSet):
            found = score_zero_shot(model, loaded, params.evaluation.batch)
            scores[name] = found | counted("images", len(loaded.images), loaded.expected)
            continue
        logger.info("%s: %d pairs", name, len(loaded.ids))
        scores[name], rows = score(model, loaded, params.evaluation)
        curve += [{"set": name, **row} for row in rows]
    with storage.replacing(place.plots / "blend.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["set", "space", "weight", "i2t_r1", "t2i_r1"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(curve)
    publish(params, model.card, place.metrics / "retrieval.json", scores)
    for name, found in scores.items():
        if "top1" in found:
            print(f"{name:>12} zero-shot  top-1 {found['top1']:5.1f}, top-5 {found['top5']:5.1f}")
        for kind, recall in found.items():
            if isinstance(recall, dict):
                print(f"{name:>12} {kind:<10} R@1 {recall['i2t_r1']:5.1f} I2T {recall['t2i_r1']:5.1f} T2I")


def score(
    model: CAFT, benchmark: RetrievalSet, settings: EvaluationParams
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Scores one set: its entry of the metrics file, and its rows of the blend curve.

    A model without a part level has null for the part score and the blends, and no curve.
    """
    images = encode_images(model, benchmark.images, settings.batch)
    captions = encode_captions(model, benchmark.captions, settings.batch)
    whole = whole_scores(model, images.whole, captions.whole)
    entry: dict[str, Any] = dict.fromkeys(["whole", "part", *(f"blend_{weight:g}" for weight in settings.blend)])
    matrices = {"whole": whole}
    curve = []
    if images.part is not None and captions.parts is not None:
        matrices["part"] = part = part_scores(model, images.part, captions.parts)
        for weight in settings.blend:
            matrices[f"blend_{weight:g}"] = blend(model, whole, part, weight, settings.blend_space)
        for space in ("logit", "cosine"):
            for weight in WEIGHTS:
                recall = recall_at_k(blend(model, whole, part, weight, space).numpy(), benchmark.truth, ks=(1,))
                shown = {key: round(value, 2) for key, value in recall.items()}
                curve.append({"space": space, "weight": weight, **shown})
    entry.update({name: recall_at_k(matrix.numpy(), benchmark.truth) for name, matrix in matrices.items()})
    entry |= counted("pairs", len(benchmark.captions), benchmark.expected)
    if benchmark.truth is not None:
        entry["images"] = len(benchmark.images)
    # Over all published scores: at zero, none of the recalls depends on how ties count.
    entry["tied_rows"] = sum(tied_rows(matrix.numpy(), benchmark.truth) for matrix in matrices.values())
    return entry, curve


if __name__ == "__main__":
    run(main, external=True)
