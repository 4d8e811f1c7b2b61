"""Ports on loopback for tests that run at the same time."""

import os
import secrets
import socket

# Below those that the system hands out by itself, so that no connection takes one while its server is not up.
_FIRST, _COUNT = 11_000, 1_000


def free_port() -> int:
    """A port that nobody listens on, of a range of this process of pytest-xdist; of another range without xdist."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw9").removeprefix("gw")) % 10
    begin = secrets.randbelow(_COUNT)
    for number in range(_COUNT):
        port = _FIRST + _COUNT * worker + (begin + number) % _COUNT
        if port_is_free(port):
            return port
    raise AssertionError(f"no port is free from {_FIRST + _COUNT * worker} on")


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
