"""Stage of pipelines/ablation, batches and scaling: one training, and the scores that it is there for."""

import argparse
from pathlib import Path

from caft import storage
from caft.eval.analysis.point import budget, description
from caft.eval.scores.metrics import log_scores, rounded
from caft.eval.scores.referring_sets import score_margins
from caft.eval.scores.retrieval_sets import score_hits
from caft.params import Params, load_params
from caft.weights.placed import load_model
from pipelines.stage import run
from pipelines.train import trained


def arguments_of_a_point(parser: argparse.ArgumentParser) -> None:
    """Arguments beyond those of every stage."""
    parser.add_argument("name", help="of the point, as ablation/flair-0: file under metrics/ and plots/")
    parser.add_argument("--rate-from", metavar="FILE", help="what pipelines.tune wrote: take its best learning rate")
    parser.add_argument(
        "--samples-of",
        type=float,
        metavar="FRACTION",
        help="train on as many samples as this fraction of the data would get (by default the run's own: equal passes)",
    )


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    values = ["init=null", *arguments.set]  # rows start at random, whatever is set for train
    of = arguments.samples_of or params.data.fraction
    if of < 1:
        values.append(f"train.samples={budget(params, of)}")
    if arguments.rate_from:
        values.append(f"train.learning_rate={storage.read_json(arguments.rate_from, 'tune')['best']!r}")
    params = load_params(arguments.params, arguments.overlay, values)
    folder = trained(params, arguments.overlay)
    model = load_model(folder / "final.safetensors")
    scores, hits = score_hits(params, model)
    log_scores(params, model.card, "retrieval", scores)
    referring, margins = score_margins(params, model)
    storage.write_json(Path("plots") / f"{arguments.name}.json", {"retrieval": hits, "referring": margins})
    # The weights stay in the run's folder: what git keeps of a point then suffices to go on from in any clone.
    summary = {**description(params, folder), "card": model.card.record()}
    summary |= {"scores": rounded(scores), "referring": rounded(referring)}
    storage.write_json(Path("metrics") / f"{arguments.name}.json", summary)


if __name__ == "__main__":
    run(main, more=arguments_of_a_point)
