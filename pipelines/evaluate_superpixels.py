"""Stage evaluate_superpixels: what masks the superpixels could make at best, on the first referring set that is there.

A stage of its own, so that a new evaluation set never retrains the superpixels, and with them the model.
"""

import argparse
from pathlib import Path

from caft import storage
from caft.data.sets import load_referring
from caft.errors import ParamsError
from caft.eval.scores.superpixels import SCORES, score_superpixels
from caft.eval.sets import present_sets
from caft.network.vision.superpixels import SFCN
from caft.params import Params
from caft.weights.files import fill, read_weights
from pipelines.stage import run

WEIGHTS = Path("models/sfcn.safetensors")


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage; scores are null where no referring set is there."""
    model = params.selected_model
    if model.superpixels is None:
        raise ParamsError(f"models.{params.model}.superpixels = null: a flat image tower has no superpixels to score")
    network = SFCN(model.superpixels.widths)
    fill(network, read_weights(WEIGHTS), WEIGHTS)
    found = next(present_sets(params, {"referring": load_referring}), None)
    cell, size = model.superpixels.cell, model.image_size
    scores = score_superpixels(network.eval(), size, cell, found[1]) if found else dict.fromkeys(SCORES)
    storage.write_json("metrics/superpixels.json", scores)


if __name__ == "__main__":
    run(main)
