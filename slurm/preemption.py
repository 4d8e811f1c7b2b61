"""The scheduler's notice that a job must go, kept until a step has ended."""

import os
import signal
from types import FrameType
from typing import Any

import submitit


class Notice:
    """Stands before submitit's handler of the signal that Slurm sends before a time limit or a preemption.

    The signal may come in the middle of a step, where a checkpoint would be half of one state and half of the next.
    Only the main rank acts on it: it saves and has the job requeued, which ends all ranks.
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
