"""Disks that are full and paths that cannot be written: one error that names the path, and nothing half made."""

import os
from pathlib import Path

import pytest

from caft.storage import disk_problem, write_json
from tests.faults import stages
from tests.faults.checks import is_absent_or_whole, refused, survives_a_full_disk
from tests.faults.conftest import Finished, Mount

pytestmark = pytest.mark.slow
# Tables and arrays, and all ways to write; the others, which take longer, are in tests/verify.
QUICK = ("source", "index", "superpixels")


@pytest.mark.parametrize("name", QUICK)
def test_a_full_disk_is_told_and_the_next_run_completes(finished: Finished, name: str, mount: Mount) -> None:
    survives_a_full_disk(finished, name, mount)


@pytest.mark.parametrize(
    "name", ["look", "source", "fetch", "captions", "sentences", "select", "index", "superpixels", "train"]
)
def test_a_disk_that_cannot_be_written_is_told(finished: Finished, name: str, mount: Mount) -> None:
    checkout = finished.before(name, mount.path)
    mount.read_only()
    refused(stages.run(name, checkout), "Read-only file system")
    assert not any((checkout / out).exists() for out in stages.outs(name))


@pytest.mark.parametrize(
    ("name", "place", "words"),
    [("source", "data/urls", "data/urls: File exists"), ("train", "runs", "Not a directory")],
)
def test_a_file_where_a_folder_belongs_is_told_and_kept(
    finished: Finished, name: str, place: str, words: str, disk: Path
) -> None:
    checkout = finished.before(name, disk)
    stages.remove(checkout, Path(place))
    (checkout / place).write_text("in the way")
    done = stages.run(name, checkout)
    refused(done, words)
    assert "move what is in the way" in done.log
    assert (checkout / place).read_text() == "in the way"


def test_a_mistake_of_ours_is_no_disk_problem() -> None:
    assert disk_problem(ValueError("No such step")) is None
    assert disk_problem(FileNotFoundError(2, "No such file or directory", "x")) is None
    try:
        write_json("/dev/full/x", {})
    except OSError as error:
        assert "/dev/full: " in (disk_problem(error) or "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; the read-only disk is tested instead")
def test_a_folder_of_another_user_is_told(finished: Finished, disk: Path) -> None:
    checkout = finished.before("source", disk)
    (checkout / "data").chmod(0o555)
    refused(stages.run("source", checkout), "Permission denied")
    (checkout / "data").chmod(0o755)
    is_absent_or_whole(finished, checkout, "source")
