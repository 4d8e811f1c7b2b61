"""Loopback and proxies: what a program on this machine serves is asked for directly, whatever the shell says of proxies."""

import os

HOSTS = ("127.0.0.1", "localhost", "::1")  # as addresses name it
_VARIABLES = ("no_proxy", "NO_PROXY")


def spare() -> None:
    """Adds loopback to the user's `no_proxy`, for this process and those that it starts.

    Some programs read the variable in small letters first, some in large ones, so both are set.
    """
    given = [os.environ.get(name, "").strip() for name in _VARIABLES]
    if "*" in given:  # no proxy for anything; it must stand alone, without blanks
        os.environ.update({name: "*" for name, value in zip(_VARIABLES, given, strict=True) if value == "*"})
        return
    for name, value in zip(_VARIABLES, (given[0] or given[1], given[1] or given[0]), strict=True):
        entries = [entry.strip() for entry in value.split(",") if entry.strip()]
        os.environ[name] = ",".join([*entries, *(host for host in HOSTS if host not in entries)])
