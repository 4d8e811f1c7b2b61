"""A checkout in which all stages have run undisturbed, copies of it, and a disk of its own for a test."""

import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml

from caft.params import load_params
from caft.train.tracking import moved
from tests.data.conftest import web, web_server  # noqa: F401
from tests.faults import stages
from tests.ports import free_port, port_is_free
from tests.waiting import wait_until


def merge(settings: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and key in settings:
            merge(settings[key], value)
        else:
            settings[key] = value


@dataclass
class Finished:
    """A checkout in which stages run undisturbed, each when a test first needs what it writes.

    Attributes:
        checkout: Also the storage root.
        port: Of the picture server.
        changes: How often each stage has changed the checkout.
    """

    checkout: Path
    port: int
    changes: dict[str, int] = field(default_factory=dict)

    def run_up_to(self, name: str) -> None:
        """Runs what has not run yet, up to a stage and with it."""
        count = self.checkout.parents[1] / "count"
        for stage in stages.STAGES[: stages.STAGES.index(name) + 1]:
            if stage not in self.changes:
                done = stages.run(stage, self.checkout, functools.partial(stages.count_to, count))
                assert done.code == 0, done.log
                self.changes[stage] = int(count.read_text())
                count.unlink()

    def content(self, out: Path) -> dict[str, Any]:
        return stages.content(self.checkout / out)

    def copied(self, disk: Path) -> Path:
        """A copy as it is, on a disk."""
        checkout = disk / "checkout"
        shutil.copytree(self.checkout, checkout)
        if (checkout / "mlflow.db").exists():  # else its runs would be refused, as those of another storage
            with mock.patch.dict(os.environ, CAFT_STORAGE=str(checkout)):
                moved.mend(load_params(checkout / "params.yaml"))
        return checkout

    def before(self, name: str, disk: Path) -> Path:
        """A copy as it was before a stage ran, on a disk."""
        self.run_up_to(name)
        checkout = self.copied(disk)
        for later in stages.STAGES[stages.STAGES.index(name) :]:
            for out in stages.outs(later):
                stages.remove(checkout, out)
        for stage, folder in (("fetch", "images"), ("train", "runs")):
            if name == stage:
                shutil.rmtree(checkout / folder)
        return checkout

    def wait_for_port(self) -> None:
        """Waits until the picture server of a killed fetch has noticed its parent's death."""
        wait_until(lambda: port_is_free(self.port), 20)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    checkout = folder / "disk" / "checkout"
    checkout.mkdir(parents=True)
    settings = yaml.safe_load((stages.PROJECT / "params.yaml").read_text())
    merge(settings, stages.SETTINGS)
    port = free_port()
    settings["corpus"]["scenes"]["port"] = port
    (checkout / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return Finished(checkout, port)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


@dataclass(frozen=True)
class Mount:
    """A file system in memory."""

    path: Path

    def read_only(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", self.path], check=True)

    def fill(self, left: int) -> Path:
        """Writes a file that leaves so many bytes free."""
        filler = self.path / "filler"
        free = shutil.disk_usage(self.path).free
        filler.write_bytes(bytes(free - left))
        return filler


@pytest.fixture
def mount(disk: Path, require_system: Callable[[str], str]) -> Iterator[Mount]:
    """A small file system of its own; skipped, or failed, where this user may not mount one."""
    done = subprocess.run(
        [require_system("mount"), "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if done.returncode:
        reason = f"cannot mount a file system ({done.stderr.strip()}); it takes root"
        pytest.fail(reason) if os.environ.get("CAFT_REQUIRE_SYSTEM") == "1" else pytest.skip(reason)
    try:
        yield Mount(disk)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)  # a database may still be open
