"""Work on many shards as Ray tasks, one task a shard."""

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from caft.errors import DataError
from caft.progress import track

logger = logging.getLogger(__name__)
Item = TypeVar("Item")
_OBJECT_STORE_BYTES = 100 * 1024 * 1024


def ray_tasks(function: Callable[[Item], Any], items: Sequence[Item], description: str) -> list[Any]:
    """Calls a function for each item in a Ray task of its own.

    Ray is started on this machine unless the environment's RAY_ADDRESS names a cluster; one that runs already in this
    process is used and left running.

    Args:
        function: Picklable; its result goes back through Ray, so it should be small.
        items: One for each task.
        description: What is counted in the progress lines.

    Returns:
        Results in the order of the items.

    Raises:
        DataError: A task failed; names its item.
    """
    if not items:
        return []
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    started = not ray.is_initialized()
    if started:
        options: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
        if "RAY_ADDRESS" not in os.environ:
            options |= {"object_store_memory": _OBJECT_STORE_BYTES, "include_dashboard": False}
        ray.init(**options)
    try:
        task = ray.remote(function)
        names = {task.remote(item): place for place, item in enumerate(items)}
        results: list[Any] = [None] * len(items)

        def finished() -> Any:
            waiting = list(names)
            while waiting:
                done, waiting = ray.wait(waiting)
                yield from done

        for reference in track(finished(), description, len(items)):
            place = names[reference]
            try:
                results[place] = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise DataError(f"{description}: {items[place]}: {error.cause}") from error
        return results
    finally:
        if started:
            ray.shutdown()
