"""Every referring and segmentation set of the settings scored, and the table of the expressions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from caft import storage
from caft.data.sets import Missing, ReferringSet, SegmentationSet, load_referring, load_segmentation
from caft.data.tables.meanings import schema
from caft.eval.analysis.matching import score_match
from caft.eval.leaked import Leaked
from caft.eval.scores.metrics import counted
from caft.eval.scores.referring import ExpressionScore, score_expressions
from caft.eval.scores.segmentation import score_segmentation
from caft.eval.sets import Loader, score_sets
from caft.model.maps import NO_PART_LEVEL, part_network
from caft.model.match import GENERAL_SENTENCES
from caft.model.protocols import RetrievalModel
from caft.params import Params

SCHEMA = schema(
    {
        "set": pa.string(),
        "image": pa.string(),
        "annotation": pa.int64(),
        "text": pa.string(),
        "level": pa.int32(),
        "intersection": pa.int64(),
        "union": pa.int64(),
        "iou": pa.float32(),
        "iou_wrong_expression": pa.float32(),
        "pointing": pa.float32(),
        "threshold": pa.float32(),
    }.items(),
    other={"text": ("the expression", ""), "image": ("file of the picture", "")},
)


def score_benchmarks(
    params: Params, model: RetrievalModel, leaked: Leaked | None = None
) -> tuple[dict[str, Any], dict[str, list[ExpressionScore]]]:
    """Scores a model on every referring and segmentation set of the settings.

    With `leaked`, images by set that were trained on, sets are scored without these too; see `caft.eval.without.twice`.

    Returns:
        Entries of grounding.json, with what `score_match` gives as `match`, and every expression at every level, by set;
        segmentation sets have what `score_segmentation` gives.
    """
    rows: dict[str, list[ExpressionScore]] = {}
    network = part_network(model)
    references = model.card.references or GENERAL_SENTENCES

    def score(name: str, loaded: ReferringSet | SegmentationSet) -> dict[str, Any]:
        assert network is not None  # else nothing was loaded
        if isinstance(loaded, SegmentationSet):
            return score_segmentation(network, loaded, params.evaluation.batch, params.evaluation.membership)
        found, expressions = score_expressions(network, loaded, params.evaluation.batch, params.evaluation.membership)
        rows.setdefault(name, expressions)  # of the set as it is, which comes first
        found["match"] = score_match(network, loaded, references, params.evaluation.batch)
        return found | counted("expressions", found["expressions"], loaded.expected)

    loaders: dict[str, Loader[Any]] = {"referring": load_referring, "segmentation": load_segmentation}
    if network is None:
        loaders = {kind: lambda _: Missing(NO_PART_LEVEL) for kind in loaders}
    return score_sets(params, loaders, score, leaked), rows


def score_margins(params: Params, model: RetrievalModel) -> tuple[dict[str, Any], dict[str, Any]]:
    """How much better the mask of an expression fits its object than the other objects of the picture, by set.

    A map that ignores the words has a margin of zero. Expressions about the only object of a picture are left out.

    Returns:
        `miou`, `miou_wrong_expression` and `margin`, the mean of their difference, in percent and points; and of each
        expression the number of its `pictures` and its `margin`, in points.
    """
    margins: dict[str, Any] = {}
    network = part_network(model)

    def score(name: str, loaded: ReferringSet) -> dict[str, Any]:
        assert network is not None  # else nothing was loaded
        found, rows = score_expressions(network, loaded, params.evaluation.batch, params.evaluation.membership)
        level = network.config.tokens[network.config.part_stage - 1]
        numbers: dict[str, int] = {}
        places: list[int] = []
        own: list[float] = []
        for row in rows:
            if row.level == level and row.score.wrong is not None:
                places.append(numbers.setdefault(row.image, len(numbers)))
                own.append(100 * (row.score.iou - row.score.wrong))
        margins[name] = {"pictures": places, "margin": [round(value, 2) for value in own]}
        means = {key: found[key] for key in ("miou", "miou_wrong_expression")}
        return {**means, "margin": fmean(own) if own else None}

    load = load_referring if network else lambda _: Missing(NO_PART_LEVEL)
    return score_sets(params, {"referring": load}, score), margins


def write_expressions(folder: Path, rows: Mapping[str, Sequence[ExpressionScore]]) -> None:
    """Writes `<set>.parquet` for each set: every expression at every level, shares in [0, 1]."""
    with storage.replacing(folder) as temporary:
        temporary.mkdir()
        for name, found in rows.items():
            values = [
                row._asdict()
                | {"set": name, "intersection": row.score.intersection, "union": row.score.union}
                | {"iou": row.score.iou, "iou_wrong_expression": row.score.wrong}
                | {"pointing": row.score.pointing, "threshold": row.score.threshold}
                for row in found
            ]
            pq.write_table(pa.Table.from_pylist(values, SCHEMA), temporary / f"{name}.parquet")
