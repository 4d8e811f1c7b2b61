"""What submitit pickles and every rank of a job runs, and where the ranks find each other."""

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import submitit
from submitit.helpers import Checkpointable

from caft.errors import LaunchError
from caft.locking import end_with
from slurm.queue import NoAnswer, end_time, node_address

_LOOPBACK = "127.0.0.1"
# A controller that does not answer is not asked at each step: that may take half a minute.
_ASK_AGAIN_SECONDS = 300.0


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
    """Says that a time limit or a preemption is near, so that the job leaves once a step has ended.

    Slurm's signal is kept from submitit: in the middle of a step, a checkpoint would be half of one state and half of the
    next. But Slurm looks at limits every half minute, signals once, and only the steps that run then; so the main rank
    looks at the time left by itself as well. It alone acts on a notice: it saves and has the job requeued, which ends all
    ranks.

    Args:
        seconds: How long before the time limit a notice is given; None: whenever a signal comes.
    """

    def __init__(self, seconds: int | None = None) -> None:
        self._signalled = False
        self._requeue: Any = None
        self._arguments: tuple[int, FrameType | None] = (0, None)
        self._seconds, self._job = seconds, ""
        self._end: float | None = None
        self._next = 0.0
        if "SUBMITIT_EXECUTOR" not in os.environ:
            return
        job = submitit.JobEnvironment()
        number = job._usr_sig()
        self._arguments = (number, None)
        self._requeue = signal.signal(number, self._note)
        if seconds is not None and job.global_rank == 0:
            self._job = job.job_id
            self._ask()

    @property
    def given(self) -> bool:
        """Whether a signal came, or the time limit is as near as it says."""
        if self._signalled or not self._job:
            return self._signalled
        if self._is_late() or self._end is None and time.monotonic() >= self._next:
            self._ask()  # somebody may have moved the limit, or nobody have answered
        return self._is_late()

    def leave(self) -> None:
        """Has the job requeued, and ends this process; called when a notice was given and all is saved."""
        self._requeue(*self._arguments)

    def _ask(self) -> None:
        """Asks when the job ends; what is known of it stays where nobody answers."""
        found = end_time(self._job)
        self._end = self._end if found is None else found
        self._next = time.monotonic() + _ASK_AGAIN_SECONDS

    def _is_late(self) -> bool:
        return self._seconds is not None and self._end is not None and time.time() >= self._end - self._seconds

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signalled, self._arguments = True, (number, frame)


@dataclass(frozen=True)
class Interruptible:
    """A job of ranks that find each other, and that ends its step and saves before it leaves.

    `notice_seconds` is how long before its time limit that is; None where no limit ends it.
    """

    job: Callable[[Notice], object]
    notice_seconds: int | None = None

    def __call__(self) -> None:
        """Runs one rank."""
        join()
        self.job(Notice(self.notice_seconds))


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
