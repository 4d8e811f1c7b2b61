"""Label-free training of SFCN."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from caft.network.vision.superpixels import SFCN, reconstruction_loss
from caft.params.models import SuperpixelSizes, SuperpixelTraining
from caft.progress import track


def train_superpixels(
    sizes: SuperpixelSizes, training: SuperpixelTraining, images: Callable[[int], Tensor], seed: int
) -> SFCN:
    """Trains SFCN to give back colour and position from superpixel means, and returns it in evaluation mode.

    `images` gives the batch of a step, uint8 (B, 3, S, S), from a thread that reads while the step before is computed; the
    start values are drawn by `seed`.
    """
    torch.manual_seed(seed)
    network = SFCN(sizes.widths).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=training.learning_rate)
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(images, 0)
        for step in track(range(training.steps), "superpixel steps"):
            batch = following.result().float() / 255
            if step + 1 < training.steps:
                following = reader.submit(images, step + 1)
            loss = reconstruction_loss(batch, network(batch), sizes.cell, training.position_weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()
