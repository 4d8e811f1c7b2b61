"""What submitit pickles and every rank of a job runs, and where the ranks find each other."""

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import submitit
from submitit.helpers import Checkpointable

from caft.errors import LaunchError
from caft.locking import end_with
from slurm.queue import NoAnswer, node_address

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Submitted(Checkpointable):
    """A job as it is submitted. Before a preemption or a time limit, submitit queues the same job again."""

    job: Callable[[], object]
    launcher: int | None = None  # process on this machine with which the ranks end; None where the job outlives it

    def __call__(self) -> None:
        """Runs one rank."""
        if self.launcher is not None:
            end_with(self.launcher)
        self.job()


class Notice:
    """Keeps the signal that Slurm sends before a time limit or a preemption from submitit until a step has ended.

    In the middle of a step, a checkpoint would be half of one state and half of the next. Only the main rank acts on
    the signal: it saves and has the job requeued, which ends all ranks.
    """

    def __init__(self) -> None:
        self.given = False
        self._requeue: Any = None
        self._arguments: tuple[int, FrameType | None] = (0, None)
        if "SUBMITIT_EXECUTOR" in os.environ:
            number = submitit.JobEnvironment()._usr_sig()
            self._requeue = signal.signal(number, self._note)

    def leave(self) -> None:
        """Has the job requeued, and ends this process; called when a notice was given and all is saved."""
        self._requeue(*self._arguments)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.given, self._arguments = True, (number, frame)


@dataclass(frozen=True)
class Interruptible:
    """A job of ranks that find each other, and that ends its step and saves before it leaves."""

    job: Callable[[Notice], object]

    def __call__(self) -> None:
        """Runs one rank."""
        join()
        self.job(Notice())


def join() -> None:
    """Exports the variables of torch's process groups when submitit started this process."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return
    job = submitit.JobEnvironment()
    environment = submitit.helpers.TorchDistributedEnvironment()
    # A rank takes its own of the cards that it sees; see `caft.train.distributed.start`.
    environment.export(set_cuda_visible_devices=False, overwrite=True)
    address = _LOOPBACK if job.num_nodes == 1 else _address(environment.master_addr)
    os.environ["MASTER_ADDR"] = address
    if address == _LOOPBACK:
        # The name of this machine may belong to a network that its own firewall closes.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


def _address(node: str) -> str:
    """Address of the first node: of its name, or where that is known to Slurm alone, the one that Slurm uses.

    Raises:
        LaunchError: Neither can be resolved.
    """
    for find in (lambda: node, lambda: node_address(node)):
        try:
            return socket.gethostbyname(find())
        except (OSError, NoAnswer) as error:
            reason = error
    raise LaunchError(
        f"node {node}: no address can be found for it from {socket.gethostname()} ({reason}); "
        "ask the cluster's administrators, or leave the node out: sbatch: [--exclude=NODE] in the launcher's slurm"
    )
