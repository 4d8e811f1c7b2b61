"""Stage evaluate_superpixels: what masks the superpixels could make at best, on the first referring set that is there.

A stage of its own, so that a new evaluation set never trains superpixels, and with them the model, again.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from caft import storage
from caft.data.sets import Missing, load_referring
from caft.errors import ParamsError
from caft.eval.scores.superpixels import boundary_recall, oracle_iou, squash_mask
from caft.network.vision.superpixels import SFCN, hard_labels
from caft.params import Params
from caft.transforms import open_image, squash
from caft.weights.files import fill, read_weights
from pipelines.stage import run

WEIGHTS = Path("models/sfcn.safetensors")


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    model = params.selected_model
    if model.superpixels is None:
        raise ParamsError(f"models.{params.model}.superpixels = null: a flat image tower has no superpixels to score")
    network = SFCN(model.superpixels.widths)
    fill(network, read_weights(WEIGHTS), WEIGHTS)
    storage.write_json("metrics/superpixels.json", scores(params, network.eval()))


def scores(params: Params, network: SFCN) -> dict[str, float | None]:
    """Quality on the first referring set that is present, in percent; null without one."""
    model = params.selected_model
    assert model.superpixels is not None
    cell, size = model.superpixels.cell, model.image_size
    grid = np.arange(size) // cell
    plain = grid[:, None] * (size // cell) + grid[None]
    for benchmark in params.benchmarks.values():
        if benchmark.kind != "referring":
            continue
        loaded = load_referring(benchmark)
        if isinstance(loaded, Missing):
            continue
        learnt_ious, grid_ious, recalls, live = [], [], [], []
        for image in loaded.images:
            pixels = squash(open_image(image.path), size)[None]
            with torch.no_grad():
                labels = hard_labels(network(pixels.float() / 255), cell)[0].numpy()
            truth = np.zeros((size, size), int)
            for number, mask in enumerate(image.masks.values(), start=1):
                fitted = squash_mask(mask, size)
                truth[fitted] = number
                if fitted.any():
                    learnt_ious.append(oracle_iou(labels, fitted))
                    grid_ious.append(oracle_iou(plain, fitted))
            recalls.append(boundary_recall(labels, truth))
            live.append(len(np.unique(labels)))
        return {
            "oracle_miou": round(100 * float(np.mean(learnt_ious)), 2),
            "grid_oracle_miou": round(100 * float(np.mean(grid_ious)), 2),
            "boundary_recall": round(100 * float(np.mean(recalls)), 2),
            "live": round(float(np.mean(live)), 2),
        }
    return dict.fromkeys(("oracle_miou", "grid_oracle_miou", "boundary_recall", "live"))


if __name__ == "__main__":
    run(main)
