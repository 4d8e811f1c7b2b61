import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from caft.data.cluster import ray_tasks
from caft.errors import DataError, LaunchError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray")]


def square_late(number: int) -> int:
    time.sleep(0.3 if number == 1 else 0)  # so that the first ends last
    return number * number


def fail_at_three(number: int) -> int:
    if number == 3:
        raise DataError("shard is damaged")
    return number


def divide(number: int) -> float:
    return 1 / number


def die_once(marker: Path) -> str:
    if not marker.exists():
        marker.touch()
        os._exit(1)
    return marker.name


def die(_: str) -> None:
    os._exit(1)


def test_results_have_the_order_of_the_items() -> None:
    assert ray_tasks(square_late, [1, 2, 3, 4], "squares") == [1, 4, 9, 16]


def test_nothing_to_do_is_nothing_done() -> None:
    assert ray_tasks(square_late, [], "squares") == []


def test_error_of_ours_keeps_its_class_and_names_the_item() -> None:
    with pytest.raises(DataError, match="^numbers, 3: shard is damaged$"):
        ray_tasks(fail_at_three, [1, 2, 3, 4], "numbers")


def test_other_error_names_the_item_and_keeps_its_cause() -> None:
    with pytest.raises(RuntimeError, match="^quotients, 0: the task failed$") as caught:
        ray_tasks(divide, [1, 0], "quotients")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_task_whose_worker_died_is_run_again(tmp_path: Path) -> None:
    assert ray_tasks(die_once, [tmp_path / "marker"], "markers") == ["marker"]


def test_task_whose_worker_always_dies_is_an_error_with_advice() -> None:
    with pytest.raises(
        LaunchError, match="deaths, mortal: its Ray worker ended before the task did.*run the stage again"
    ):
        ray_tasks(die, ["mortal"], "deaths")


def test_cluster_that_does_not_answer_is_named() -> None:
    # In a process of its own: this one has a Ray already.
    program = "from caft.data.cluster import ray_tasks; ray_tasks(abs, [1], 'numbers')"
    environment = os.environ | {"RAY_ADDRESS": "127.0.0.1:1"}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode and "LaunchError: RAY_ADDRESS = 127.0.0.1:1: no Ray cluster answers" in ended.stderr
