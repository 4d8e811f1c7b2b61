"""One real Slurm for all tests of this folder."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Finished, disk, finished  # noqa: F401
from tests.slurm.cluster import CLIENTS, DAEMONS, Cluster, start
from tests.slurm.project import Project


@pytest.fixture(scope="session")
def cluster(require_system: Callable[[str], str]) -> Iterator[Cluster]:
    """Two nodes with four cards each; skipped, or failed, without the packages or root."""
    for program in (*DAEMONS, *CLIENTS):
        require_system(program)
    if os.geteuid() != 0:
        reason = "a throwaway Slurm and its device files take root"
        pytest.fail(reason) if os.environ.get("CAFT_REQUIRE_SYSTEM") == "1" else pytest.skip(reason)
    root = Path(tempfile.mkdtemp(prefix="slurm-"))  # pytest's own folders are too deep for a socket's path
    running = start(root, require_system)
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(root)


@pytest.fixture
def here(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster, for what this process itself asks of Slurm."""
    for key, value in cluster.environment.items():
        monkeypatch.setenv(key, value)
    return cluster


@pytest.fixture
def project(cluster: Cluster, finished: Finished, disk: Path) -> Iterator[Project]:  # noqa: F811
    """A checkout whose next stage is `train`, run as jobs of the cluster."""
    made = Project(finished.before("train", disk), cluster)
    (made.checkout / "mlflow.db").unlink(missing_ok=True)
    yield made
    made.end()
