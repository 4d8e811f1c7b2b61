"""Stage superpixels: SFCN trained without labels on the corpora, or imported from the published checkpoint."""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from caft import storage
from caft.data.crawl.fetch import ensure_indexed
from caft.data.training.reader import TrainingIndex
from caft.errors import ParamsError
from caft.params import Params
from caft.train.superpixels import train_superpixels
from caft.transforms import squash
from caft.weights.files import save_model
from caft.weights.sfcn import sfcn_from_checkpoint
from pipelines.stage import run


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    model, training = params.selected_model, params.superpixels
    if model.superpixels is None:
        raise ParamsError(f"models.{params.model}.superpixels = null: a flat image tower has no superpixels to train")
    if training.checkpoint:
        network = sfcn_from_checkpoint(storage.in_checkout(training.checkpoint), model.superpixels.widths)
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


if __name__ == "__main__":
    run(main)
