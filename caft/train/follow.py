"""What a job has written down, and the copy of it in the tracker, which may be away for a while."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from caft.errors import LaunchError, TrackingError
from caft.train.tracking.runs import Run

logger = logging.getLogger(__name__)
_RETRY_SECONDS = 30.0
# While a job runs, nobody waits for a tracker that does not answer.
_HASTE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


class Tail:
    """The lines that another process added to a file of JSON lines since the last look; all if the file was replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0
        self.file = (0, 0)

    def new(self) -> list[dict[str, Any]]:
        """Objects of the whole lines that were written since the last call."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            state = os.fstat(file.fileno())
            if self.file != (state.st_dev, state.st_ino):
                self.file, self.position = (state.st_dev, state.st_ino), 0
            file.seek(self.position)
            content = file.read()
        end = content.rfind(b"\n") + 1
        self.position += end
        return [json.loads(line) for line in content[:end].splitlines()]


class Follower:
    """Prints what a job writes down and sends it to the tracker; what the tracker did not take is sent again later.

    Attributes:
        sent: Whether it has taken any metric.
    """

    def __init__(self, folder: Path, tracked: Run) -> None:
        self.sent = False
        self._folder, self._tracked = folder, tracked
        self._tail = Tail(folder / "metrics.jsonl")
        self._waiting: list[dict[str, Any]] = []
        self._job: str | None = None
        self._silent = False
        self._next = 0.0

    def follow(self) -> None:
        """Looks for new lines; to be called now and then."""
        rows = self._tail.new()
        for row in rows:
            _log(row)
        self._waiting += rows
        if (self._waiting or self._new_job()) and time.monotonic() >= self._next:
            try:
                with _hurried():
                    self._send()
            except (TrackingError, LaunchError) as error:
                if not self._silent:
                    logger.warning("%s. The training goes on; its metrics are sent once the tracker answers", error)
                self._silent, self._next = True, time.monotonic() + _RETRY_SECONDS

    def finish(self, status: str, weights: Path | None, speed: Mapping[str, Any] | None = None) -> None:
        """Sends what is left, the figures of `speed` and the model, and ends the tracked run.

        Raises:
            TrackingError: The tracker does not answer, and has not taken any metric of this process.
            LaunchError: Another process does not free the tracker's lock; the same.
        """
        self._waiting += self._tail.new()
        try:
            # A failure, and Ctrl-C, are not to wait for a tracker.
            with _hurried() if weights is None else nullcontext():
                self._send()
                if speed:
                    self._tracked.log_figures("speed", speed)
                if weights is not None:
                    self._tracked.log_model(weights)
                self._tracked.finish(status)
        except (TrackingError, LaunchError) as error:
            if weights is not None and not self.sent:
                raise
            words = "%s. %d lines of metrics, the model or the end of the run are not in the tracker; "
            logger.warning(words + "`dvc repro --force --single-item train` sends them", error, len(self._waiting))

    def _send(self) -> None:
        if job := self._new_job():
            self._tracked.set_job(job)
            self._job = job
        if self._waiting:
            self._tracked.log_metrics([(row["step"], row) for row in self._waiting])
            self.sent, self._waiting = True, []
        if self._silent:
            logger.info("the tracker answers again")
            self._silent = False

    def _new_job(self) -> str | None:
        """Id of the cluster's job that runs the training, if the tracker does not know it yet."""
        job = cluster_job(self._folder)
        return job if job != self._job else None


def cluster_job(folder: Path) -> str | None:
    """Id of the cluster's job that a run's folder names last; None without one, or where the file is not whole."""
    try:
        job = json.loads((folder / "job.json").read_text())
        return str(job["id"]) if job["executor"] == "slurm" else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def _hurried() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _HASTE}
    os.environ.update(_HASTE)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _log(row: dict[str, Any]) -> None:
    """Prints a validation, and every fiftieth step."""
    if "validation_t2i_r1" in row:
        part = row.get("validation_part_t2i_r1", math.nan)
        logger.info("step %d: held-out T2I R@1 %.1f whole, %.1f part", row["step"], row["validation_t2i_r1"], part)
    elif row["step"] % 50 == 0 and "loss" in row:
        logger.info("step %d: loss %.3f, %.0f images/s", row["step"], row["loss"], row.get("images_per_s", math.nan))
