"""Superpixel maps of training images: computed once and kept, or computed for each batch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from caft.data.training.batch import Batch
from caft.data.training.reader import TrainingIndex
from caft.errors import DataError
from caft.network import gpu
from caft.network.caft import CAFT
from caft.params import Params
from caft.storage import replacing
from caft.train import seal
from caft.train.compiled import fast_labels
from caft.train.distributed import World, barrier
from caft.train.stalled import time_limit
from caft.transforms import squash

Labels = Callable[[Batch], Tensor]
# Size of the maps of a corpus up to which they are kept, on disk and in the page cache of each node. 4 GiB are
# a million images of `tiny` or 85,000 of `base`. Beyond that, keeping them would save little: the network that makes
# them takes 4 % of the operations of a step of `base`, 18 % of one of `tiny` (benchmarks/counts.py).
KEPT_BYTES = 4 * 2**30
_AT_ONCE = 64


def batch_labels(
    model: CAFT, index: TrainingIndex, world: World, folder: Path, params: Params, half: torch.dtype | None = None
) -> Labels:
    """A function from a batch to its superpixels, (B, S, S) int64, on the world's device.

    Maps are kept where images are not cropped, so that each has one map, and those of the corpus take no more than
    `KEPT_BYTES`. The labels are the same either way, but for the few that half precision moves. The ranks share the images
    to compute the maps, and keep them in the run's folder. `half` is the half precision of a compiled step, whose maps are
    made by `fast_labels`; those that are kept are not.

    Raises:
        DataError: An image cannot be read and may not be replaced, or none came in time.
    """
    size, is_cropped = model.config.image_size, params.selected_recipe.crop_scale is not None
    dtype = np.dtype(np.uint8 if model.config.tokens[0] <= 256 else np.uint16)
    if is_cropped or model.superpixels is None or len(index) * size**2 * dtype.itemsize > KEPT_BYTES:
        if model.superpixels is not None and half is not None:
            fast = fast_labels(model, half)
            return lambda batch: fast(gpu.sent(batch.images, world.device))
        return lambda batch: model.superpixel_labels(gpu.sent(batch.images, world.device))
    paths = [folder / f"superpixels-{rank}-of-{world.size}.npy" for rank in range(world.size)]
    rows = range(world.rank, len(index), world.size)
    if seal.fault(paths[world.rank]) is not None:
        header = {"descr": dtype.str, "fortran_order": False, "shape": (len(rows), size, size)}
        with replacing(paths[world.rank]) as temporary, temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for first in range(0, len(rows), _AT_ONCE):
                with time_limit(index.images_root):
                    pictures = [_picture(index, row, params) for row in rows[first : first + _AT_ONCE]]
                images = torch.stack([squash(picture, size) for picture in pictures])
                maps = model.superpixel_labels(images.to(world.device)).cpu().numpy()
                file.write(maps.astype(dtype).tobytes())
        seal.put(paths[world.rank])
    barrier()
    parts = [np.load(path, mmap_mode="r") for path in paths]

    def look_up(batch: Batch) -> Tensor:
        maps = np.stack([parts[row % world.size][row // world.size] for row in batch.rows.tolist()])
        return gpu.sent(torch.from_numpy(maps.astype(np.int64)), world.device)

    return look_up


def _picture(index: TrainingIndex, row: int, params: Params) -> Image.Image:
    """An image of the index; a blank one, whose map nobody reads, if it is damaged and another stands in for it."""
    try:
        return index.picture(row)
    except DataError:
        if params.data.damaged == "stop":
            raise
        return Image.new("RGB", (1, 1))
