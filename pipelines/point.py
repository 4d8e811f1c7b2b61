"""Stage of pipelines/ablation and pipelines/scaling: one training, and the retrieval scores that it is there for."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from caft import storage
from caft.data.sets import Missing, RetrievalSet, load_retrieval
from caft.data.training.index import read_summary
from caft.eval.scores.features import load_model
from caft.eval.scores.metrics import rounded, run_of
from caft.eval.scores.retrieval import ranks
from caft.model.encoding import encode_captions, encode_cropped
from caft.model.model import Model
from caft.model.scores import part_scores, whole_scores
from caft.params import Params, load_params
from caft.train.plan import INDEX
from caft.train.tail import Tail
from pipelines.stage import run
from pipelines.train import trained


def arguments_of_a_point(parser: argparse.ArgumentParser) -> None:
    """Arguments beyond those of every stage."""
    parser.add_argument(
        "name", help="of the point, as ablation/flair-0: folder under models/, file under metrics/ and plots/"
    )
    parser.add_argument("--rate-from", metavar="FILE", help="what pipelines.tune wrote: take its best learning rate")
    parser.add_argument(
        "--equal",
        choices=("samples", "epochs"),
        default="samples",
        help="a fraction of the data gets the samples of all (the default), or as many passes over it",
    )


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    values = list(arguments.set)
    if params.data.fraction < 1:
        values.append(f"train.samples={budget(params, arguments.equal)}")
    if arguments.rate_from:
        values.append(f"train.learning_rate={storage.read_json(arguments.rate_from, 'tune')['best']!r}")
    params = load_params(arguments.params, arguments.overlay, values)
    folder = trained(params, arguments.overlay)
    model = load_model(folder / "final.safetensors")
    found, hits = scores(params, model)
    tracked = run_of(params, model.card)
    tracked.log_scores("retrieval", rounded(found))
    tracked.finish()
    with storage.replacing(Path("models") / arguments.name) as temporary:
        temporary.mkdir()
        for suffix in (".safetensors", ".json"):
            (temporary / f"caft{suffix}").write_bytes((folder / f"final{suffix}").read_bytes())
    storage.write_json(Path("plots") / f"{arguments.name}.json", hits)
    summary = {**description(params, folder), "scores": rounded(found)}
    storage.write_json(Path("metrics") / f"{arguments.name}.json", summary)


def images_and_fraction(params: Params) -> tuple[int, int]:
    """Training images of the whole index, and how many of them this run is given."""
    everything = sum(corpus["count"] for corpus in read_summary(INDEX)["corpora"])
    training = everything - min(params.selected_recipe.validation_images, everything // 4)
    return training, max(1, round(params.data.fraction * training))


def budget(params: Params, equal: str) -> int:
    """Samples of a run: the recipe's on all images, or the share of them that the run's images are."""
    recipe = params.selected_recipe
    everything, mine = images_and_fraction(params)
    whole = recipe.samples if recipe.samples is not None else recipe.steps(everything) * recipe.batch
    return whole if equal == "samples" else round(whole * mine / everything)


def description(params: Params, folder: Path) -> dict[str, Any]:
    """What was trained, and the last scores on the images that training holds out."""
    rows = Tail(folder / "metrics.jsonl").new()
    last: dict[str, Any] = {}
    for row in rows:
        last.update(row)
    return {
        "fingerprint": folder.name,
        "corpora": list(params.corpora),
        "seed": params.seed,
        "learning_rate": params.selected_recipe.learning_rate,
        "fraction": params.data.fraction,
        "images": images_and_fraction(params)[1],
        "samples": last["samples"],
        "validation": {
            key.removeprefix("validation_"): round(value, 2)
            for key, value in last.items()
            if key.startswith("validation_")
        },
    }


def scores(params: Params, model: Model) -> tuple[dict[str, Any], dict[str, Any]]:
    """R@1 of each score that the model can form, and which queries found their match.

    A model with a flat text encoder has a `global` score, of class token and text; one with a hierarchy has `whole`,
    of class token and whole caption; both have `conditioned`, by text-conditioned pooling, unless they have no part
    level. Of a long caption in chunks, it is the mean over these.

    Returns:
        By set and score, `i2t_r1` and `t2i_r1` in percent; and by set, score and direction, a 0 or 1 for each query.
    """
    found: dict[str, Any] = {}
    hits: dict[str, Any] = {}
    for name, benchmark in params.benchmarks.items():
        if benchmark.kind != "retrieval":
            continue
        loaded = load_retrieval(benchmark)
        if isinstance(loaded, Missing):
            found[name] = {"not_run": loaded.reason}
            continue
        found[name], hits[name] = {"pairs": len(loaded.ids)}, {}
        for kind, matrix in matrices(model, loaded, params.evaluation.batch).items():
            rank = dict(zip(("i2t", "t2i"), ranks(matrix.numpy(), loaded.truth), strict=True))
            found[name][kind] = {f"{way}_r1": 100.0 * float(np.mean(rank[way] < 1)) for way in rank}
            hits[name][kind] = {way: "".join(np.where(rank[way] < 1, "1", "0")) for way in rank}
    return found, hits


def matrices(model: Model, benchmark: RetrievalSet, batch: int) -> dict[str, Tensor]:
    """Scores of all pairs, (images, captions), by the name of the score."""
    images = encode_cropped(model.network, benchmark.images, batch)
    captions = encode_captions(model, benchmark.captions, batch)
    kind = "global" if model.network.config.is_flat_text else "whole"
    result = {kind: whole_scores(model.network, images.whole, captions.whole)}
    if images.part is not None and captions.parts is not None:
        result["conditioned"] = part_scores(model.network, images.part, captions.parts)
    return result


if __name__ == "__main__":
    run(main, more=arguments_of_a_point)
