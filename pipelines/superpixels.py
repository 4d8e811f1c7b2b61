"""Stage superpixels: SFCN trained without labels on the corpora, or imported from the published checkpoint."""

import argparse
import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from caft import storage
from caft.data.benchmarks import Missing, load_referring
from caft.data.fetch import ensure_indexed
from caft.data.reader import TrainingIndex
from caft.data.transforms import open_image, squash
from caft.errors import ParamsError
from caft.eval.superpixels import boundary_recall, oracle_iou, squash_mask
from caft.params import ModelParams, Params
from caft.pretrained import save_model, sfcn_from_checkpoint
from caft.train.superpixels import train_superpixels
from caft.vision.superpixels import SFCN, hard_labels
from pipelines.stage import run

logger = logging.getLogger(__name__)


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    model, training = params.selected_model, params.superpixels
    if model.superpixels is None:
        raise ParamsError(f"models.{params.model}.superpixels = null: a flat image tower has no superpixels to train")
    if training.checkpoint:
        network = sfcn_from_checkpoint(training.checkpoint)
    else:
        index = TrainingIndex("data/index", storage.root(params) / "images")
        ensure_indexed(params, "data/index", index.corpora)
        rng = np.random.default_rng(params.seed)
        rows = rng.integers(len(index), size=(training.steps, training.batch))

        def images(step: int) -> Tensor:
            pictures = (index.picture(int(row)) for row in rows[step])
            return torch.stack([squash(picture, model.image_size) for picture in pictures])

        # Sums are rounded in an order that depends on the number of threads; one gives the same weights on any machine.
        torch.set_num_threads(1)
        network = train_superpixels(model.superpixels, training, images, params.seed)
    card = {"superpixels": model.superpixels.model_dump(mode="json"), "checkpoint": training.checkpoint}
    save_model(network, Path("models/sfcn.safetensors"), card)
    storage.write_json("metrics/superpixels.json", scores(params, network, model))


def scores(params: Params, network: SFCN, model: ModelParams) -> dict[str, float | None]:
    """Quality on the first referring set that is present, in percent; null without one."""
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
