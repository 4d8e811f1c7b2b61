"""Stage evaluate_retrieval: retrieval by the whole score, the part score and their blends (CAFT++); zero-shot
classes; composition suites.
"""

import argparse

from caft import storage
from caft.eval.place import place_of
from caft.eval.scores.kinds import TABLE, kind_rows
from caft.eval.scores.metrics import publish
from caft.eval.scores.retrieval_sets import CURVE, score_benchmarks
from caft.params import Params
from pipelines.stage import run


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    place = place_of(arguments)
    model = place.model(params)
    scores, curve = score_benchmarks(params, model, place.leaked())
    storage.write_csv(place.plots / "blend.csv", CURVE, curve)
    storage.write_csv(place.plots / "kinds.csv", TABLE, list(kind_rows(scores)))
    publish(params, model.card, place.metrics / "retrieval.json", scores)
    for name, found in scores.items():
        if "top1" in found:
            print(f"{name:>12} zero-shot  top-1 {found['top1']:5.1f}, top-5 {found['top5']:5.1f}")
        for kind, accuracy in found.get("accuracy", {}).items():
            if accuracy is not None:
                shown = ", ".join(f"{key} {accuracy[key]:5.1f}" for key in found["chance"])
                print(f"{name:>12} {kind:<10} {shown}")
        for score, recall in found.items():
            if isinstance(recall, dict) and "t2i_r1" in recall:
                print(f"{name:>12} {score:<10} R@1 {recall['i2t_r1']:5.1f} I2T {recall['t2i_r1']:5.1f} T2I")
        for kind, of_kind in found.get("by_kind", {}).items():
            first = of_kind["whole"]
            print(
                f"{name:>12} {kind:<10} whole score in its group (chance {of_kind['chance']:.0f}) "
                f"{first['i2t_r1']['value']:5.1f} I2T {first['t2i_r1']['value']:5.1f} T2I"
            )


if __name__ == "__main__":
    run(main, external=True)
