"""Stage evaluate_retrieval: retrieval by the whole score, the part score and their blends (CAFT++); zero-shot classes."""

import argparse
import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caft import storage
from caft.data.sets import Missing, RetrievalSet, ZeroShotSet, load_retrieval, load_zero_shot
from caft.eval.scores.cache import encode_pairs
from caft.eval.scores.features import load_model
from caft.eval.scores.metrics import counted, publish
from caft.eval.scores.rerank import rerank
from caft.eval.scores.retrieval import Ranking, rank, rank_rows, recalls
from caft.eval.scores.zero_shot import score_zero_shot
from caft.model.encoding import EncodedCaptions, EncodedImages
from caft.model.protocols import RetrievalModel, RetrievalNetwork
from caft.model.scores import blend, part_scores, whole_scores
from caft.params import EvaluationParams, Params
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
        features = storage.features_folder(params) / str(model.card.fingerprint)
        scores[name], rows = score(model, loaded, params.evaluation, features)
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
    model: RetrievalModel, benchmark: RetrievalSet, settings: EvaluationParams, features: Path | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Scores one set: its entry of the metrics file, and its rows of the blend curve.

    Args:
        model: One without a part level has null for the part score and the blends, and no curve.
        benchmark: The set.
        settings: With `rerank`, the part score and the blends are null too, and the blends among the best by the whole
            score stand beside them, under names that say so.
        features: Folder where encoded sets are kept; None keeps nothing.
    """
    images, captions = encode_pairs(model, benchmark.images, benchmark.captions, settings.batch, features)
    entry, curve = score_encoded(model.network, images, captions, settings, benchmark.truth)
    entry |= counted("pairs", len(benchmark.captions), benchmark.expected)
    if benchmark.truth is not None:
        entry["images"] = len(benchmark.images)
    return entry, curve


def score_encoded(
    model: RetrievalNetwork,
    images: EncodedImages,
    captions: EncodedCaptions,
    settings: EvaluationParams,
    truth: ArrayLike | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """As `score` of what is encoded, without the number of pairs.

    Two matrices are held, whole and part; blends are formed row by row.

    Args:
        model: The model.
        images: B of them.
        captions: Q of them.
        settings: How scores are formed.
        truth: Image of each caption, (Q,); None: caption j belongs to image j.
    """
    whole = whole_scores(model, images.whole, captions.whole)
    entry: dict[str, Any] = dict.fromkeys(["whole", "part", *(f"blend_{weight:g}" for weight in settings.blend)])
    rankings = {"whole": rank(whole.numpy(), truth)}
    curve = []
    if images.part is not None and captions.parts is not None and settings.rerank is not None:
        logger.warning("evaluation.rerank is %d: part and blended scores are approximate", settings.rerank)
        blends = rerank(
            model, whole, images.part, captions.parts, settings.rerank, settings.blend, settings.blend_space, truth
        )
        for weight, ranking in zip(settings.blend, blends, strict=True):
            rankings[f"approximate_top{settings.rerank}_blend_{weight:g}"] = ranking
    elif images.part is not None and captions.parts is not None:
        part = part_scores(model, images.part, captions.parts)

        def blended(weight: float, space: str) -> Ranking:
            def rows(place: slice) -> NDArray[np.floating]:
                return blend(model, whole[place], part[place], weight, space).numpy()

            return rank_rows(rows, len(whole), whole.shape[1], truth)

        rankings["part"] = rank(part.numpy(), truth)
        for weight in settings.blend:
            rankings[f"blend_{weight:g}"] = blended(weight, settings.blend_space)
        for space in ("logit", "cosine"):
            for weight in WEIGHTS:
                shown = {key: round(value, 2) for key, value in recalls(blended(weight, space), ks=(1,)).items()}
                curve.append({"space": space, "weight": weight, **shown})
    entry.update({name: recalls(ranking) for name, ranking in rankings.items()})
    # Over all published scores: at zero, none of the recalls depends on how ties count.
    entry["tied_rows"] = sum(ranking.tied for ranking in rankings.values())
    entry["chunks_cut"] = 100.0 * captions.cut_chunks / captions.chunks
    entry["tokens_seen"] = 100.0 * captions.seen_tokens / max(1, captions.tokens)
    return entry, curve


if __name__ == "__main__":
    run(main, external=True)
