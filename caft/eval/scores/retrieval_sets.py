"""Retrieval sets scored by the whole score, the part score and their blends (CAFT++); zero-shot classes; composition.

Two matrices of scores are held, whole and part; blends are formed row by row. Of a large set, part scores that no published
rank depends on are not computed (`caft.eval.scores.certified`).
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from caft import storage
from caft.data.sets import (
    CompositionSet,
    RetrievalSet,
    ZeroShotSet,
    load_composition,
    load_retrieval,
    load_zero_shot,
)
from caft.eval.leaked import Leaked
from caft.eval.scores.cache import encode_pairs
from caft.eval.scores.certified import needed_part_scores
from caft.eval.scores.composition import score_composition
from caft.eval.scores.kinds import score_kinds
from caft.eval.scores.metrics import counted
from caft.eval.scores.rerank import rerank
from caft.eval.scores.retrieval import Ranking, rank, rank_rows, recalls
from caft.eval.scores.zero_shot import score_zero_shot
from caft.eval.sets import score_sets
from caft.model.encoding import EncodedCaptions, EncodedImages
from caft.model.model import Model
from caft.model.protocols import RetrievalModel, RetrievalNetwork
from caft.model.scores import blend, part_scores, whole_scores
from caft.params import Params
from caft.params.evaluation import EvaluationParams

logger = logging.getLogger(__name__)

CURVE = ("set", "space", "weight", "i2t_r1", "t2i_r1")  # columns of blend.csv
WEIGHTS = [number / 10 for number in range(11)]
LOADERS = {"retrieval": load_retrieval, "zero_shot": load_zero_shot, "composition": load_composition}


def score_benchmarks(
    params: Params, model: RetrievalModel, leaked: Leaked | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Scores a model on every retrieval, zero-shot and composition set of the settings.

    With `leaked`, images by set that were trained on, sets are scored without these too; see `caft.eval.without.twice`.

    Returns:
        Entries of retrieval.json by set, and the rows of blend.csv.
    """
    curve: dict[str, list[dict[str, Any]]] = {}
    features = storage.features_folder(params) / str(model.card.fingerprint)

    def score(name: str, loaded: RetrievalSet | ZeroShotSet | CompositionSet) -> dict[str, Any]:
        if isinstance(loaded, ZeroShotSet):
            found = score_zero_shot(model, loaded, params.evaluation.batch)
            return found | counted("images", len(loaded.images), loaded.expected)
        if isinstance(loaded, CompositionSet):
            return score_composition(model, loaded, params.evaluation)
        logger.info("%s: %d pairs", name, len(loaded.ids))
        entry, rows = score_retrieval(model, loaded, params.evaluation, features)
        curve.setdefault(name, [{"set": name, **row} for row in rows])  # of the set as it is, which comes first
        return entry

    scores = score_sets(params, LOADERS, score, leaked)
    return scores, [row for rows in curve.values() for row in rows]


def score_retrieval(
    model: RetrievalModel, benchmark: RetrievalSet, settings: EvaluationParams, features: Path | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Scores one set: its entry of the metrics file, and its rows of the blend curve.

    A model without a part level has null for the part score and the blends, and no curve. With the setting `rerank` they
    are null too, and the blends among the best by the whole score stand beside them, under names that say so. Encoded
    sets are kept in the folder `features`; None keeps nothing. Look-alikes have `by_kind`; see `score_kinds`.
    """
    images, captions = encode_pairs(model, benchmark.images, benchmark.captions, settings.batch, features)
    entry, curve = score_encoded(model.network, images, captions, settings, benchmark.truth)
    entry |= counted("pairs", len(benchmark.captions), benchmark.expected)
    if benchmark.truth is not None:
        entry["images"] = len(benchmark.images)
    if benchmark.groups:
        entry["by_kind"] = score_kinds(model.network, images, captions, settings, benchmark.groups)
    return entry, curve


def score_encoded(
    network: RetrievalNetwork,
    images: EncodedImages,
    captions: EncodedCaptions,
    settings: EvaluationParams,
    truth: ArrayLike | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Scores encoded pairs as `score_retrieval` does, without the number of pairs.

    `truth` is the image of each caption, (Q,); None: caption j belongs to image j.
    """
    entry: dict[str, Any] = dict.fromkeys(["whole", "part", *(f"blend_{weight:g}" for weight in settings.blend)])
    curve: list[dict[str, Any]] = []
    if settings.rerank is not None and images.part is not None and captions.parts is not None:
        logger.warning("evaluation.rerank is %d: part and blended scores are approximate", settings.rerank)
        whole = whole_scores(network, images.whole, captions.whole)
        k, weights, space = settings.rerank, settings.blend, settings.blend_space
        rankings = {"whole": rank(whole.numpy(), truth)}
        blends = rerank(network, whole, images.part, captions.parts, k, weights, space, truth)
        names = [f"approximate_top{k}_blend_{weight:g}" for weight in weights]
        rankings |= dict(zip(names, blends, strict=True))
    else:
        whole = whole_scores(network, images.whole, captions.whole)
        rankings = {"whole": rank(whole.numpy(), truth)}
        if images.part is not None and captions.parts is not None:
            mixed = [(weight, settings.blend_space) for weight in settings.blend]
            wanted = [*mixed, *((weight, space) for space in ("logit", "cosine") for weight in WEIGHTS)]
            # The curve reaches weight 1, the part score itself, so its ranks are proved too.
            found = needed_part_scores(network, whole, images.part, captions.parts, wanted, truth)
            rankings["part"] = rank(found.scores.numpy(), truth)
            scores = {"whole": whole, "part": found.scores}
            for weight, space in mixed:
                rankings[f"blend_{weight:g}"] = _rank_blend(network, scores, weight, space, truth)
            for space in ("logit", "cosine"):
                for weight in WEIGHTS:
                    recall = recalls(_rank_blend(network, scores, weight, space, truth), ks=(1,))
                    rounded = {key: round(value, 2) for key, value in recall.items()}
                    curve.append({"space": space, "weight": weight, **rounded})
    entry.update({name: recalls(ranking) for name, ranking in rankings.items()})
    # Over all published scores: at zero, none of the recalls depends on how ties count.
    entry["tied_rows"] = sum(ranking.tied for ranking in rankings.values())
    entry["chunks_cut"] = 100.0 * captions.cut_chunks / captions.chunks
    entry["tokens_seen"] = 100.0 * captions.seen_tokens / max(1, captions.tokens)
    return entry, curve


def level_scores(network: RetrievalNetwork, images: EncodedImages, captions: EncodedCaptions) -> dict[str, Tensor]:
    """Returns the scores of all pairs, (images, captions), by level: `whole`, and `part` if the model has that level."""
    scores = {"whole": whole_scores(network, images.whole, captions.whole)}
    if images.part is not None and captions.parts is not None:
        scores["part"] = part_scores(network, images.part, captions.parts)
    return scores


def _rank_blend(
    network: RetrievalNetwork, scores: Mapping[str, Tensor], weight: float, space: str, truth: ArrayLike | None
) -> Ranking:
    whole, part = scores["whole"], scores["part"]

    def rows(place: slice) -> NDArray[np.floating]:
        return blend(network, whole[place], part[place], weight, space).numpy()

    return rank_rows(rows, len(whole), whole.shape[1], truth)


def score_hits(params: Params, model: Model) -> tuple[dict[str, Any], dict[str, Any]]:
    """R@1 of each score that a model of the ablation or of a curve can form, and which queries found their match.

    A model with a flat text encoder has a `global` score, of class token and text; one with a hierarchy has `whole`,
    of class token and whole caption; both have `conditioned`, by text-conditioned pooling, and the blends of the two
    (CAFT++), unless they have no part level. Of a long caption in chunks, `conditioned` is the mean over these.

    Returns:
        By set and score, `i2t_r1` and `t2i_r1` in percent; and by set, score and direction, a 0 or 1 for each query.
    """
    hits: dict[str, Any] = {}
    names = {"whole": "global" if model.network.config.is_flat_text else "whole", "part": "conditioned"}

    def score(name: str, pairs: RetrievalSet) -> dict[str, Any]:
        encoded = encode_pairs(model, pairs.images, pairs.captions, params.evaluation.batch)
        entry: dict[str, Any] = {"pairs": len(pairs.ids)}
        hits[name] = {}
        scores = level_scores(model.network, *encoded)
        rankings = {names[level]: rank(matrix.numpy(), pairs.truth) for level, matrix in scores.items()}
        for weight in params.evaluation.blend if "part" in scores else ():
            space = params.evaluation.blend_space
            rankings[f"blend_{weight:g}"] = _rank_blend(model.network, scores, weight, space, pairs.truth)
        for kind, found in rankings.items():
            entry[kind] = recalls(found, ks=(1,))
            ranks = {"i2t": found.images, "t2i": found.texts}
            hits[name][kind] = {way: "".join(np.where(places < 1, "1", "0")) for way, places in ranks.items()}
        return entry

    return score_sets(params, {"retrieval": load_retrieval}, score), hits
