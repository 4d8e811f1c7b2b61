"""Ranks of a job, and seeding that a step number determines."""

import datetime
import hashlib
import os
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from caft.params import arithmetic

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among the ranks of a job."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0


def start() -> World:
    """Joins the other ranks through the variables that torchrun and submitit set; a single process needs none."""
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    cuda = torch.cuda.is_available() and arithmetic.current() == "native"
    # A cluster may show each task all GPUs of its node, or only its own.
    device = torch.device("cuda", local_rank % torch.cuda.device_count()) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if size > 1:
        dist.init_process_group("nccl" if cuda else "gloo", timeout=datetime.timedelta(minutes=30))
    return World(rank, size, device)


def stop() -> None:
    """Leaves the group of ranks."""
    if dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Waits for all ranks."""
    if dist.is_initialized():
        dist.barrier()


def of_main(value: T) -> T:
    """The main rank's value, on all ranks."""
    if not dist.is_initialized():
        return value
    holder = [value]
    dist.broadcast_object_list(holder, src=0)
    return holder[0]


def of_main_tensor(tensor: Tensor) -> None:
    """Fills a tensor of every rank with the main rank's."""
    if dist.is_initialized():
        dist.broadcast(tensor, src=0)


def of_all(value: T) -> list[T]:
    """Every rank's value, on all ranks."""
    if not dist.is_initialized():
        return [value]
    values: list[T | None] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return cast(list[T], values)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Sets torch's generators to a state of (seed, step, rank) alone, so that a resumed run draws the same."""
    digest = hashlib.blake2b(f"{seed}-{step}-{rank}".encode(), digest_size=7).digest()
    torch.manual_seed(int.from_bytes(digest))
