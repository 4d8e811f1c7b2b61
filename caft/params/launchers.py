"""The entries of the table `launchers`: where training runs, and what it asks of Slurm."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from caft.params.section import Count, Positive, PositiveNumber, Section


class SlurmParams(Section):
    """What a job asks of Slurm beyond its shape; null leaves it to the cluster."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    memory_gb: Positive | None = None
    sbatch: Annotated[tuple[str, ...], Field(strict=False)] = ()
    notice_seconds: Positive
    time_limits: Count
    deadline_hours: Positive


class LauncherParams(Section):
    """Where training runs."""

    executor: Literal["local", "slurm"]
    nodes: Positive
    tasks_per_node: Positive
    gpus_per_node: Count
    cpus_per_task: Positive
    workers: Count
    text_tokens_at_once: Positive | None
    micro_batch: Positive | None = None
    compile: bool = False
    time_minutes: Positive
    gpu_memory_gb: Positive | None = None
    images_per_s: PositiveNumber | None = None
    slurm: SlurmParams | None = None

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.nodes * self.tasks_per_node

    def problems(self) -> Iterator[tuple[str, Any, str]]:
        """Rules between the values: key, value and what is wrong."""
        if self.executor == "local" and self.nodes > 1:
            yield "nodes", self.nodes, "must be 1 where executor is local"
        if self.gpus_per_node not in (0, self.tasks_per_node):
            yield "gpus_per_node", self.gpus_per_node, f"must be 0 or one a task ({self.tasks_per_node})"
        if self.slurm is None:
            if self.executor == "slurm":
                yield "slurm", None, "must be given where executor is slurm"
            return
        if self.executor == "local":
            yield "slurm", "given", "only where executor is slurm"
        if self.slurm.notice_seconds >= self.time_minutes * 60:
            limit = f"time_minutes ({self.time_minutes * 60} seconds)"
            yield "slurm.notice_seconds", self.slurm.notice_seconds, f"must be below {limit}"
        for line in self.slurm.sbatch:
            if not re.fullmatch(r"--[a-z][a-z-]*(=.+)?", line):
                yield "slurm.sbatch", line, "must be an option of sbatch, as --exclusive or --reservation=NAME"
