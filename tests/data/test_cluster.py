import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from caft.data.tables import cluster
from caft.data.tables.cluster import ray_started, ray_tasks
from caft.errors import LaunchError, SchemaError
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def by_value() -> Iterator[None]:
    """Ray's workers cannot import test modules."""
    from ray import cloudpickle

    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


def square_late(number: int) -> tuple[int, int]:
    time.sleep(0.05 * (3 - number))  # the last to be submitted ends first
    return number * number, os.getpid()


def fail(path: Path) -> None:
    if path.name == "schema":
        raise SchemaError("column url is missing")
    if path.name == "bug":
        raise ZeroDivisionError("a bug")


def where(_: int) -> str:
    import caft

    return str(Path(caft.__file__).parent)


def begin(place: tuple[int, Path]) -> None:
    number, folder = place
    (folder / str(number)).touch()
    if number == 0:
        raise SchemaError("the first")
    time.sleep(0.2)


def die_once(marker: Path) -> str:
    if not marker.exists():
        marker.touch()
        os._exit(1)
    return "lived"


@pytest.mark.usefixtures("ray")
def test_results_are_in_the_order_of_the_items_and_made_elsewhere() -> None:
    results = ray_tasks(square_late, [0, 1, 2, 3], "squares")
    assert [square for square, _ in results] == [0, 1, 4, 9]
    assert os.getpid() not in {process for _, process in results}


@pytest.mark.usefixtures("ray")
def test_workers_run_the_code_of_this_checkout() -> None:
    import caft

    assert ray_tasks(where, [0], "places") == [str(Path(caft.__file__).parent)]


@pytest.mark.usefixtures("ray")
def test_errors_name_the_task_and_keep_their_class() -> None:
    with pytest.raises(SchemaError, match=r"^scenes shards, .*/schema: column url is missing$"):
        ray_tasks(fail, [Path("/a/fine"), Path("/a/schema")], "scenes shards")
    with pytest.raises(RuntimeError, match="scenes shards, /a/bug: the task failed"):
        ray_tasks(fail, [Path("/a/bug")], "scenes shards")


@pytest.mark.slow
def test_an_error_ends_the_tasks_that_are_left(tmp_path: Path) -> None:
    """In a process of its own, since the Ray of these tests outlives an error."""
    program = f"""
from pathlib import Path
from caft.data.tables import cluster
from tests.data.test_cluster import begin
cluster.ALONE_SECONDS = 0  # all of them by Ray
cluster.ray_tasks(begin, [(number, Path({str(tmp_path)!r})) for number in range(400)], "beginnings")
"""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", program], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "SchemaError: beginnings, (0, " in done.stderr, done.stderr
    begun = len(list(tmp_path.iterdir()))
    time.sleep(1)
    assert 1 <= begun == len(list(tmp_path.iterdir())) < 200


@pytest.mark.usefixtures("ray")
def test_task_whose_worker_dies_is_run_again(tmp_path: Path) -> None:
    assert ray_tasks(die_once, [tmp_path / "marker"], "lives") == ["lived"]


def test_a_single_task_is_done_here_with_the_errors_of_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray as ray_package

    monkeypatch.setattr(ray_package, "is_initialized", lambda: False)
    ((square, process),) = ray_tasks(square_late, [3], "squares")
    assert (square, process) == (9, os.getpid())
    with pytest.raises(SchemaError, match=r"^scenes shards, .*/schema: column url is missing$"):
        ray_tasks(fail, [Path("/a/schema")], "scenes shards")


def nap(number: int) -> tuple[int, int]:
    time.sleep(0.3)
    return number * number, os.getpid()


@pytest.mark.usefixtures("ray")
def test_what_is_not_done_in_the_time_of_rays_start_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_is_running", lambda: False)
    monkeypatch.setattr(cluster, "ALONE_SECONDS", 0.5)
    results = ray_tasks(nap, [1, 2, 3, 4, 5], "naps")
    assert [square for square, _ in results] == [1, 4, 9, 16, 25]
    here = [process == os.getpid() for _, process in results]
    assert here in ([True, True, False, False, False], [True, False, False, False, False])  # on a machine that is busy
    # A cluster that is asked for gets all of them.
    monkeypatch.setenv("RAY_ADDRESS", "none.invalid:1")
    assert os.getpid() not in {process for _, process in ray_tasks(nap, [1, 2], "naps")}


@pytest.mark.parametrize("failures", [2, 3])
def test_a_start_that_takes_too_long_is_tried_again(monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    import ray as ray_package

    calls = []

    def slow_start(**_: object) -> None:
        calls.append(len(calls))
        if len(calls) <= failures:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray_package, "init", slow_start)
    monkeypatch.setattr(ray_package, "shutdown", lambda: None)
    if failures < cluster.STARTS:
        cluster._start("unused", {})
        assert len(calls) == failures + 1
    else:
        with pytest.raises(LaunchError, match="Ray did not start in 3 attempts .*overloaded"):
            cluster._start("unused", {})


TOLD = """
import logging, time
from caft.data.tables.cluster import ray_started
from pipelines.signals import ends_when_told
logging.basicConfig(level=logging.INFO)
with ends_when_told(), ray_started():
    print("up", flush=True)
    time.sleep(120)
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["while it starts", "while it runs"])
def test_sigterm_ends_a_stage_with_ray_in_its_own_way(when: str) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", TOLD], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert program.stdout is not None and program.stderr is not None
    if when == "while it runs":
        assert program.stdout.readline() == "up\n"
    else:
        while "starting Ray on this machine" not in program.stderr.readline():
            assert program.poll() is None
        time.sleep(2)
    program.terminate()
    _, said = program.communicate(timeout=800)
    assert program.returncode == 128 + signal.SIGTERM, said
    assert said.splitlines()[-1] == "ended by SIGTERM: run it again, and it goes on"
    wait_until(lambda: not any(_is_of(process, program.pid) for process in psutil.process_iter()), 30)


def _is_of(process: psutil.Process, session: int) -> bool:
    """Whether a process that runs belongs to a session."""
    try:
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def test_nothing_to_do_starts_nothing() -> None:
    assert ray_tasks(fail, [], "nothing") == []


def test_wrong_cluster_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray as ray_package

    if ray_package.is_initialized():
        pytest.skip("this process is connected to another cluster already")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(LaunchError, match="RAY_ADDRESS = 127.0.0.1:1: no Ray cluster answers"):
        with ray_started():
            pass
