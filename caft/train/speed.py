"""How fast a run goes, and how much of that is waste: the figures of a window of steps."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from caft.network.text.encoder import encoded_lengths
from caft.params.models import ModelParams
from caft.params.recipes import RecipeParams
from caft.train.cost import forward_flops, step_flops
from caft.train.distributed import World

# Dense products in half precision, in operations a second, by what stands in a card's name [NVIDIA's data sheets].
_PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "V100": 125e12}


class Speed:
    """Counts images, positions of texts, operations and time spent waiting since the last reading.

    The cards' peaks apply only where products are in half precision, `is_half`.
    """

    def __init__(self, model: ModelParams, recipe: RecipeParams, world: World, is_half: bool) -> None:
        self.model, self.recipe, self.world, self.is_half = model, recipe, world, is_half
        forward_flops(model, recipe.chunks)  # takes a second, once, which is not to be in the first window
        self.restart()

    def restart(self) -> None:
        """Begins a new window, as after a validation or a checkpoint, which are not training."""
        self._start, self._waited = time.perf_counter(), 0.0
        self._steps = self._flops = self._filled = self._encoded = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time of the block as waiting for data."""
        before = time.perf_counter()
        yield
        self._waited += time.perf_counter() - before

    def add(self, tokens: Tensor) -> None:
        """Counts a step on texts of this rank, ids (B, K, L), on the CPU."""
        images = len(tokens)
        if self.model.grounding is None:
            tokens = tokens[:, : self.recipe.chunks]
        texts = tokens.flatten(0, 1)
        lengths = encoded_lengths(texts)
        self._steps += 1
        self._filled += int((texts.argmax(1) + 1).sum())
        self._encoded += int(lengths.sum())
        self._flops += step_flops(self.model, self.recipe, images, self.world.size, lengths.tolist())

    def read(self) -> dict[str, float]:
        """The figures, and a new window.

        Returns:
            `images_per_s` of all ranks; `data_wait_share` of this rank; `tflops` of all ranks, counting the operations
            that training needs once, not those of texts or superpixels that are computed again; `mfu`, their share of the
            card's peak, where that is known; `padded_token_share` of the positions that are encoded; `peak_memory_mib` of
            this rank so far, on a GPU what torch allocated.
        """
        elapsed = time.perf_counter() - self._start
        rate = self._flops / elapsed
        found = {
            "images_per_s": self._steps * self.recipe.batch / elapsed,
            "data_wait_share": self._waited / elapsed,
            "tflops": rate * self.world.size / 1e12,
            "padded_token_share": 1 - self._filled / max(1, self._encoded),
            "peak_memory_mib": _peak_memory(self.world.device),
        }
        peak = peak_rate(self.world.device) if self.is_half else None
        if peak is not None:
            found["mfu"] = rate / peak
        self.restart()
        return found


def peak_rate(device: torch.device) -> float | None:
    """Dense operations a second in half precision that a card's maker states, None where it is not known."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((peak for card, peak in _PEAKS.items() if card in name), None)


def _peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)
