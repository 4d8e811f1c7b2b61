"""Stage evaluate_grounding: referring segmentation from attention maps, without mask training."""

import argparse
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from caft import storage
from caft.data.sets import Missing, load_referring
from caft.eval.scores.features import load_model
from caft.eval.scores.metrics import counted, publish
from caft.eval.scores.referring import ExpressionScore, score_expressions
from caft.model.maps import NO_PART_LEVEL, part_network
from caft.params import Params
from pipelines.place import place_of
from pipelines.stage import run

logger = logging.getLogger(__name__)
SCHEMA = pa.schema(
    {
        "set": pa.string(),
        "image": pa.string(),
        "annotation": pa.int64(),
        "text": pa.string(),
        "level": pa.int32(),  # tokens of the stage
        "iou": pa.float32(),
        "iou_wrong_expression": pa.float32(),
        "pointing": pa.float32(),
        "threshold": pa.float32(),
    }
)


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    place = place_of(arguments)
    model = place.given(params) or load_model()
    network = part_network(model)
    scores: dict[str, Any] = {}
    rows: dict[str, list[ExpressionScore]] = {}
    for name, benchmark in params.benchmarks.items():
        if benchmark.kind != "referring":
            continue
        loaded = load_referring(benchmark) if network else Missing(NO_PART_LEVEL)
        if isinstance(loaded, Missing):
            logger.warning("%s is not run: %s", name, loaded.reason)
            scores[name] = {"not_run": loaded.reason}
            continue
        assert network is not None
        found, rows[name] = score_expressions(network, loaded, params.evaluation.batch, params.evaluation.membership)
        expressions = sum(len(image.expressions) for image in loaded.images)
        scores[name] = found | counted("expressions", expressions, loaded.expected)
    write_expressions(place.reports / "expressions", rows)
    publish(params, model.card, place.metrics / "grounding.json", scores)
    for name, found in scores.items():
        if "miou" in found:
            print(
                f"{name:>12} mIoU {found['miou']:5.1f}, wrong expression {found['miou_wrong_expression'] or 0:5.1f}, "
                f"all objects {found['miou_all_foreground']:5.1f}, pointing {found['pointing']:5.1f}"
            )


def write_expressions(folder: Path, rows: dict[str, list[ExpressionScore]]) -> None:
    """Writes `<set>.parquet` for each set: every expression at every level, shares in [0, 1]."""
    with storage.replacing(folder) as temporary:
        temporary.mkdir()
        for name, found in rows.items():
            values = [
                {
                    "set": name,
                    "image": row.image,
                    "annotation": row.annotation,
                    "text": row.text,
                    "level": row.level,
                    "iou": row.score.iou,
                    "iou_wrong_expression": row.score.wrong,
                    "pointing": row.score.pointing,
                    "threshold": row.score.threshold,
                }
                for row in found
            ]
            pq.write_table(pa.Table.from_pylist(values, SCHEMA), temporary / f"{name}.parquet")


if __name__ == "__main__":
    run(main, external=True)
