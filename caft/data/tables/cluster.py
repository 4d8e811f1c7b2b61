"""Runs one function over many items with Ray: on this machine by default, or on a running cluster.

The unit of work is one shard that reads and writes its own files, so results do not depend on who
computed them, or in which order. To use a cluster, set ``RAY_ADDRESS`` to its head; its nodes must
see the same files at the same paths and have this project installed.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

from caft.data import loopback
from caft.errors import CaftError, LaunchError
from caft.progress import track

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

# Tasks hand each other paths and counts, never data; Ray's default is a third of the memory.
OBJECT_STORE_BYTES = 80 * 2**20
CONNECT_SECONDS = 10
# Ray gives its own processes half a minute to come up, which a busy machine may not grant at the first attempt.
STARTS = 3
# Twice what its start takes. Work of fewer seconds is done no later without it, and longer work hardly later.
ALONE_SECONDS = 10.0


def ray_tasks(function: Callable[[Item], Result], items: Sequence[Item], description: str) -> list[Result]:
    """Calls ``function(item)`` for each item, each call a Ray task of one CPU.

    If Ray is not running in this process and no cluster is asked for, this process begins by itself; what it has not
    done after `ALONE_SECONDS` is left to Ray, which is then started and stopped at the end. So is not more than a single
    item. A task whose worker dies is run again by Ray, so `function` must write its files atomically.

    Args:
        function: A function of a module (not a closure), whose argument and result can be pickled.
        items: One for each task; ``str(item)`` is what errors call it, so a NamedTuple or a path is good.
        description: What is counted, such as "scenes captions"; for progress and errors.

    Returns:
        The results, in the order of `items`.

    Raises:
        CaftError: A task raised one (the same class, with the item's name in front), or a worker
            died again and again (LaunchError). The tasks that are left end with Ray.
        RuntimeError: A task raised anything else; the remote traceback is its cause.
    """
    done = [] if _is_running() else _alone(function, items, description)
    if len(done) == len(items):
        return done
    left = items[len(done) :]
    import ray

    with nullcontext() if ray.is_initialized() else ray_started():
        task = ray.remote(function)
        places = {task.remote(item): place for place, item in enumerate(left)}
        waiting, results = list(places), {}
        # After an error the rest is not cancelled: ray.cancel on a task that is about to end aborts this process
        # (Ray 2.60). It ends with Ray, or with the connection to it.
        for _ in track(left, description, len(left)):
            (ended,), waiting = ray.wait(waiting, num_returns=1)
            place = places[ended]
            results[place] = _result(ended, description, left[place])
    return [*done, *(results[place] for place in range(len(left)))]


def _alone(function: Callable[[Item], Result], items: Sequence[Item], description: str) -> list[Result]:
    """Results of the first items, made in this process: as many as are begun in `ALONE_SECONDS`."""
    until = time.monotonic() + (0 if os.environ.get("RAY_ADDRESS") else ALONE_SECONDS)
    done: list[Result] = []
    for item in items:
        if len(items) > 1 and time.monotonic() >= until:
            break
        try:
            done.append(function(item))
        except CaftError as error:
            raise type(error)(f"{description}, {item}: {error}") from None
        except Exception as error:
            raise RuntimeError(f"{description}, {item}: the task failed") from error
    return done


def _is_running() -> bool:
    """Whether Ray runs in this process; it takes a second to import, which a single item waits for in vain."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


def _result(reference: Any, description: str, item: object) -> Any:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, CaftError):
            raise type(cause)(f"{description}, {item}: {cause}") from None
        raise RuntimeError(f"{description}, {item}: the task failed") from error
    except ray.exceptions.RayError as error:
        raise LaunchError(
            f"{description}, {item}: its Ray worker ended before the task did ({type(error).__name__}: {error}). "
            "Too little memory is the usual reason; run the stage again, what is done stays done"
        ) from error


def _check_answers(address: str) -> None:
    """Raises OSError if nothing listens at an address of the form [ray://]host:port; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()


@contextmanager
def ray_started() -> Iterator[None]:
    """Connects to the cluster at ``RAY_ADDRESS`` if that is set, else starts Ray on this machine, for the block.

    Raises:
        LaunchError: There is no cluster at that address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    loopback.spare()
    import ray

    quiet: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
    if address := os.environ.get("RAY_ADDRESS"):
        logger.info("connecting to Ray at %s", address)
        try:
            _check_answers(address)
            with _own_sigterm():
                ray.init(address=address, **quiet)
        except OSError as error:
            raise LaunchError(
                f"RAY_ADDRESS = {address}: no Ray cluster answers ({error}); start one there, "
                "or unset the variable to use this machine"
            ) from error
        try:
            yield
        finally:
            ray.shutdown()
        return
    logger.info("starting Ray on this machine")
    # Its sockets lie in this folder, and a socket's path may have 107 characters at most.
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    try:
        with _own_sigterm():
            _start(folder, quiet)
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keeps what this process does at SIGTERM: Ray, as it starts, replaces it by an exit without a word."""
    mine, told = signal.getsignal(signal.SIGTERM), False
    try:
        yield
    except SystemExit as error:
        told = error.code == signal.SIGTERM  # by Ray's, while it was starting
        if not told:
            raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, mine)
    if told:
        os.kill(os.getpid(), signal.SIGTERM)


def _start(folder: str, quiet: dict[str, Any]) -> None:
    """Starts Ray on this machine.

    Raises:
        LaunchError: It did not come up.
    """
    import ray

    for attempt in range(1, STARTS + 1):
        try:
            ray.init(
                address="local",  # else Ray would join whatever cluster a user of this machine has started
                num_cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=folder,
                **quiet,
            )
            return
        except Exception as error:  # Ray has no class of its own for it
            if "timed out" not in str(error):
                raise
            ray.shutdown()
            if attempt == STARTS:
                raise LaunchError(
                    f"Ray did not start in {STARTS} attempts ({error}); the machine is overloaded: run the stage again "
                    "when it is less busy, or set RAY_ADDRESS to a cluster"
                ) from error
            logger.warning("Ray did not start in time; trying again")
