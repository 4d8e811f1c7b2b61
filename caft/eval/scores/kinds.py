"""Look-alikes told apart: which of a group's captions belongs to which of its images, by what they differ in."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from caft.data.sets.groups import Group
from caft.eval.analysis.curves import over_queries
from caft.eval.analysis.intervals import resampled_images
from caft.eval.scores.retrieval import rank
from caft.model.encoding import EncodedCaptions, EncodedImages
from caft.model.protocols import RetrievalNetwork
from caft.model.scores import blend, part_scores, whole_scores
from caft.params.evaluation import EvaluationParams

TABLE = ("set", "kind", "score", "direction", "r1", "low", "high", "chance", "queries", "groups")  # of kinds.csv
WAYS = ("i2t_r1", "t2i_r1")


def score_kinds(
    network: RetrievalNetwork,
    images: EncodedImages,
    captions: EncodedCaptions,
    settings: EvaluationParams,
    groups: Sequence[Group],
) -> dict[str, dict[str, Any]]:
    """Scores each group as a retrieval set of its own.

    Args:
        network: The model's.
        images: Of the whole set, one for each caption.
        captions: Of the whole set.
        settings: The blends; they are exact also with `rerank`.
        groups: Places of their pairs.

    Returns:
        By kind, in order of first appearance: for each score of the metrics file `i2t_r1` and `t2i_r1`, the percent of
        queries whose match is first in their group, ties counted against it, each with the ends `low` and `high` of its
        95 % bootstrap interval; `chance`, that of drawing from the group; `queries` of each direction, and `groups`. The
        bootstrap draws whole groups, since queries of one have the same candidates.
    """
    found: dict[str, dict[str, dict[str, list[NDArray[np.bool_]]]]] = {}
    for group in groups:
        places = list(group.members)
        of_kind = found.setdefault(group.kind, {})
        for name, matrix in _scores(network, images, captions, settings, places).items():
            ranking = rank(matrix.numpy())
            hits = of_kind.setdefault(name, {way: [] for way in WAYS})
            hits["i2t_r1"].append(ranking.images < 1)
            hits["t2i_r1"].append(ranking.texts < 1)
    return {kind: _entry([len(g.members) for g in groups if g.kind == kind], hits) for kind, hits in found.items()}


def _scores(
    network: RetrievalNetwork,
    images: EncodedImages,
    captions: EncodedCaptions,
    settings: EvaluationParams,
    places: list[int],
) -> dict[str, Tensor]:
    """Scores of all pairs among some places, (n, n), by their name in the metrics file."""
    whole = whole_scores(network, images.whole[places], captions.whole[places])
    if images.part is None or captions.parts is None:
        return {"whole": whole}
    part = part_scores(network, images.part[places], captions.parts[places])
    blends = {f"blend_{w:g}": blend(network, whole, part, w, settings.blend_space) for w in settings.blend}
    return {"whole": whole, "part": part} | blends


def _entry(sizes: Sequence[int], scores: Mapping[str, Mapping[str, Sequence[NDArray[np.bool_]]]]) -> dict[str, Any]:
    """A kind's entry, from the sizes of its groups and the hits of each score and direction, group by group."""
    groups, queries = len(sizes), sum(sizes)
    owner = np.repeat(np.arange(groups), sizes)
    entry: dict[str, Any] = {"groups": groups, "queries": queries, "chance": 100.0 * groups / queries}
    for name, ways in scores.items():
        entry[name] = {}
        for way, hits in ways.items():
            of_query = np.concatenate(hits)
            value = over_queries(100.0 * float(of_query.mean()), 100 * resampled_images(of_query, owner))
            entry[name][way] = {"value": value.value, "low": value.low, "high": value.high}
    return entry


def kind_rows(scores: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows of kinds.csv, from the entries of retrieval.json by set."""
    for name, entry in scores.items():
        for kind, of_kind in entry.get("by_kind", {}).items():
            facts = {key: of_kind[key] for key in ("chance", "queries", "groups")}
            for score, ways in of_kind.items():
                for way, found in ways.items() if isinstance(ways, Mapping) else ():
                    ends = {"r1": found["value"], "low": found["low"], "high": found["high"]}
                    numbers = {key: round(value, 2) for key, value in (ends | facts).items()}
                    yield {"set": name, "kind": kind, "score": score, "direction": way[:3], **numbers}
