"""How fast a run goes, and how much of that is waste: the figures of a window of steps, and of the stops between them.

There is one definition of speed: samples over the time of their steps. What is not a step is a stop, and is left out: the
start of a job to the end of its first step (libraries, first batch, compilation), validations and checkpoints. Each stop is
a line of `stops.jsonl` beside the run's curves, which no later start of the run takes back.
"""

import json
import logging
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from caft.network.text.encoder import encoded_lengths
from caft.params.models import ModelParams
from caft.params.recipes import RecipeParams
from caft.train.cost import forward_flops, step_flops
from caft.train.distributed import World, of_all
from caft.train.energy import Meter, meter_of

logger = logging.getLogger(__name__)
STOPS = "stops.jsonl"
# Dense products in half precision, in operations a second, by what stands in a card's name [NVIDIA's data sheets].
_PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "V100": 125e12}


class Speed:
    """Counts images, positions of texts, operations and time spent waiting since the last reading.

    The cards' peaks apply only where products are in half precision, `is_half`. Begins with a stop, the start, which ends
    with the first step that is added.

    Args:
        model: Sizes.
        recipe: Batch and texts.
        world: The ranks.
        is_half: Whether products are in half precision.
        stops: Where the main rank writes down what stops took; None for nowhere.
        compiled: Whether steps are compiled, so that what is compiled again counts.
        since: `time.perf_counter` when the start began; None for now.
    """

    def __init__(
        self,
        model: ModelParams,
        recipe: RecipeParams,
        world: World,
        is_half: bool,
        stops: Path | None = None,
        compiled: bool = False,
        since: float | None = None,
    ) -> None:
        self.model, self.recipe, self.world, self.is_half = model, recipe, world, is_half
        self._path, self._compiled = stops, compiled
        self._meter: Meter | None = meter_of(world.device)
        forward_flops(model, recipe.chunks)  # takes a second, once, which is not to be in the first window
        self._began: float | None = time.perf_counter() if since is None else since  # None once there was a step
        self._graphs = 0
        self._restart()

    def _restart(self) -> None:
        self._start, self._seconds, self._waited = time.perf_counter(), 0.0, 0.0
        self._joules: float | None = 0.0 if self._meter is not None else None
        self._steps = self._flops = self._filled = self._encoded = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time of the block as waiting for data."""
        before = time.perf_counter()
        yield
        self._waited += time.perf_counter() - before

    @contextmanager
    def stopped(self, kind: str, step: int) -> Iterator[None]:
        """Leaves the time and the energy of the block out of the window, and writes them down."""
        self._pause()
        before = time.perf_counter()
        yield
        self._finish()
        self._note({"kind": kind, "step": step, "seconds": time.perf_counter() - before})
        self._start = time.perf_counter()

    def add(self, tokens: Tensor, step: int = 0, **facts: Any) -> None:
        """Counts a step on texts of this rank, ids (B, K, L), on the CPU; the first one ends the start and has `facts`."""
        if self._began is not None:
            self._finish()
            machine = {"device": device_name(self.world.device), "ranks": self.world.size, **facts}
            if (peak := self._peak()) is not None:
                machine["peak_tflops"] = peak * self.world.size / 1e12
            if self._meter is not None:
                machine["energy"] = self._meter.source
            self._note({"kind": "start", "step": step, "seconds": time.perf_counter() - self._began, **machine})
            self._began, self._graphs = None, _graphs()
            self._restart()
            return
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
        """The figures, and a new window; to be called by all ranks.

        Returns:
            `step_seconds` that the window's steps took, stops left out; `images_per_s` of all ranks; `data_wait_share` of
            the rank that waited most; `tflops` of all ranks, counting the operations that training needs once, not those
            of texts or superpixels that are computed again; `mfu`, their share of the card's peak, where that is known;
            `padded_token_share` of the positions that are encoded; `joules` of all ranks where they are counted;
            `recompilations` of this rank where steps are compiled; `peak_memory_mib` so far of the rank that took most,
            on a GPU what torch allocated. Without a step since the start, the last alone.
        """
        if not self._steps:
            return {"peak_memory_mib": max(of_all(_peak_memory(self.world.device)))}
        self._pause()
        ranks = of_all((self._waited, self._joules, _peak_memory(self.world.device)))
        joules = [joules for _, joules, _ in ranks if joules is not None]
        rate = self._flops / self._seconds
        found = {
            "step_seconds": self._seconds,
            "images_per_s": self._steps * self.recipe.batch / self._seconds,
            "data_wait_share": max(waited for waited, _, _ in ranks) / self._seconds,
            "tflops": rate * self.world.size / 1e12,
            "padded_token_share": 1 - self._filled / max(1, self._encoded),
            "peak_memory_mib": max(memory for _, _, memory in ranks),
        }
        if (peak := self._peak()) is not None:
            found["mfu"] = rate / peak
        if len(joules) == len(ranks):
            found["joules"] = sum(joules)
        if self._compiled:
            graphs = _graphs()
            found["recompilations"], self._graphs = float(graphs - self._graphs), graphs
        end = self._start
        self._restart()
        self._start = end  # what reading takes is the next window's
        return found

    def _pause(self) -> None:
        self._finish()
        self._seconds += time.perf_counter() - self._start
        self._start = time.perf_counter()
        if self._joules is not None and self._meter is not None:
            used = self._meter.read()
            self._joules = None if used is None else self._joules + used

    def _finish(self) -> None:
        """Lets a GPU finish what it was given, so that it counts where it belongs."""
        if self.world.device.type == "cuda":
            torch.cuda.synchronize(self.world.device)

    def _note(self, line: dict[str, Any]) -> None:
        """Writes a stop down, with the energy of all ranks."""
        ranks = of_all(self._meter.read() if self._meter is not None else None)
        joules = [joules for joules in ranks if joules is not None]
        if len(joules) == len(ranks):
            line["joules"] = round(sum(joules), 3)
        if not self.world.is_main:
            return
        line["seconds"] = round(line["seconds"], 6)
        logger.info("step %d: %s took %.1f s, in which no rank trained", line["step"], line["kind"], line["seconds"])
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def _peak(self) -> float | None:
        return peak_rate(self.world.device) if self.is_half else None


def peak_rate(device: torch.device) -> float | None:
    """Dense operations a second in half precision that a card's maker states, None where it is not known."""
    name = device_name(device)
    return next((peak for card, peak in _PEAKS.items() if card in name), None)


def device_name(device: torch.device) -> str:
    """What a card calls itself; `CPU` of another device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _graphs() -> int:
    """How many graphs torch has compiled in this process; 0 if nothing was ever compiled."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return int(dynamo.counters["stats"]["unique_graphs"]) if dynamo is not None else 0


def _peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)
