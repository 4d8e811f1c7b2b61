"""What submitit pickles and every rank of a job runs."""

from collections.abc import Callable
from dataclasses import dataclass

from submitit.helpers import Checkpointable

from caft.locking import end_with
from slurm.preemption import Notice
from slurm.rendezvous import join


@dataclass(frozen=True)
class Submitted(Checkpointable):
    """A job as it is submitted. Before a preemption or a time limit, submitit queues the same job again.

    Attributes:
        job: Run by every rank.
        launcher: Process on this machine with which the ranks end; None for a job that outlives its launcher.
    """

    job: Callable[[], object]
    launcher: int | None = None

    def __call__(self) -> None:
        """Runs one rank."""
        if self.launcher is not None:
            end_with(self.launcher)
        self.job()


@dataclass(frozen=True)
class Interruptible:
    """A job of ranks that find each other, and that ends its step and saves before it leaves.

    Attributes:
        job: Gets the notice; called in every rank.
    """

    job: Callable[[Notice], object]

    def __call__(self) -> None:
        """Runs one rank."""
        join()
        self.job(Notice())
