"""A stage whose work is done by a job."""

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.faults import stages
from tests.faults.conftest import merge
from tests.slurm.cluster import Cluster
from tests.waiting import wait_until

SLURM = {"partition": "gpu", "memory_gb": 8, "notice_seconds": 30, "time_limits": 2, "deadline_hours": 1}


@dataclass
class Project:
    """A checkout of which a stage is submitted to the cluster.

    Attributes:
        checkout: Also the storage root.
        cluster: Runs its jobs.
        stage: Its name.
        started: All launchers.
    """

    checkout: Path
    cluster: Cluster
    stage: str = "train"
    started: list[stages.Stage] = field(default_factory=list)

    def set(self, launcher: dict[str, Any], **settings: Any) -> None:
        path = self.checkout / "params.yaml"
        content = yaml.safe_load(path.read_text())
        local = content["launchers"]["local"]
        content["launchers"]["test"] = {**local, "executor": "slurm", "time_minutes": 30, "slurm": SLURM, **launcher}
        if self.stage == "train":
            content["launch"] = "test"
        else:
            content["jobs"] = {self.stage: "test"}
        merge(content, settings)
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def start(self) -> stages.Stage:
        self.started.append(stages.Stage(self.stage, self.checkout, environment=self.cluster.environment))
        return self.started[-1]

    def jobs(self) -> list[str]:
        """Ids of all jobs of this checkout that Slurm still knows."""
        lines = self.cluster.call("scontrol", "--oneliner", "show", "job").splitlines()
        return [line.split()[0].split("=")[1] for line in lines if f"{self.checkout}/" in line]

    def end(self) -> None:
        """Kills the launchers and ends the jobs."""
        for stage in self.started:
            if stage.process.is_alive():
                stage.kill()
        for job in self.jobs():
            self.cluster.call("scancel", job)
        wait_until(lambda: not self.cluster.call("squeue", "--noheader").strip(), 30)

    def job(self) -> str:
        [job] = self.jobs()
        return job

    def has(self, pattern: str) -> bool:
        return any(self.checkout.glob(f"runs/*/{pattern}"))

    def log_of(self, job: str, rank: int = 0) -> str:
        [path] = self.checkout.glob(f"runs/*/jobs/{job}_{rank}_log.err")
        return path.read_text()

    def tracked_runs(self) -> list[str]:
        """State of each run in MLflow's database."""
        database = sqlite3.connect(self.checkout / "mlflow.db")
        try:
            return [status for (status,) in database.execute("SELECT status FROM runs")]
        finally:
            database.close()
