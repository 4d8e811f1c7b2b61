"""Ranks of gloo groups, each a process of its own."""

import gc
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from caft.train.distributed import stop

_SECONDS = 300.0

Work = Callable[[int, int, Path], None]


def run_ranks(work: Work, folder: Path, *sizes: int) -> None:
    """Calls ``work(rank, size, folder)``, a function of a module, as every rank of a group, for one size after another.

    The groups share their processes, as starting these takes longest. What `work` makes is gone before its group is: a
    group's last holder waits for its threads to end, and if that is a model wrapped by DDP, torch (2.13) waits with the
    interpreter's lock, which those threads may need: the process then hangs.
    """
    # What hangs must not outlive the tests, so they are daemons.
    context = mp.spawn(_run, (work, folder, sizes), nprocs=max(sizes), join=False, daemon=True)
    end = time.monotonic() + _SECONDS
    while not context.join(timeout=1):
        if time.monotonic() > end:
            for process in context.processes:
                process.kill()
            raise AssertionError(f"ranks of {work.__module__} still run after {_SECONDS} seconds")


def _run(rank: int, work: Work, folder: Path, sizes: tuple[int, ...]) -> None:
    torch.set_num_threads(1)
    for size in sizes:
        if rank < size:
            dist.init_process_group("gloo", init_method=f"file://{folder}/group-{size}", rank=rank, world_size=size)
            work(rank, size, folder)
            gc.collect()
            stop()
