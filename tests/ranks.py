"""Ranks of a gloo group, each a process of its own."""

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

_SECONDS = 300.0


def run_ranks(count: int, work: Callable[..., None], *arguments: Any) -> None:
    """Calls ``work(rank, *arguments)``, a function of a module, in so many processes, and waits for their ends."""
    context = mp.spawn(work, arguments, nprocs=count, join=False, daemon=True)  # what hangs must not outlive the tests
    end = time.monotonic() + _SECONDS
    while not context.join(timeout=1):
        if time.monotonic() > end:
            for process in context.processes:
                process.kill()
            raise AssertionError(f"ranks of {work.__module__} still run after {_SECONDS} seconds")


def in_group(rank: int, size: int, store: Path, work: Callable[[], None]) -> None:
    """Calls a function while this process is a rank of a group whose members meet in the file `store`.

    What it makes must be gone before the group is: see `caft.train.distributed.stop`.
    """
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    work()
    gc.collect()
    dist.destroy_process_group()
