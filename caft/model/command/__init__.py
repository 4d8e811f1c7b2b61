"""The command `caft`: see where sentences look in a picture, search a folder, look at models and captions.

Here are no libraries: help and wrong arguments are told at once. What a command needs is imported when it runs, torch as
the last.
"""

import argparse
import errno
import importlib
import logging
import sys
from collections.abc import Sequence

from caft.errors import CaftError, exits_with_message
from caft.model.command_line import parser
from caft.model.interrupts import importing
from caft.storage import disk_error
from caft.weights.hub import fetch, is_hub_name

# Modules of this package with a function of each command's name.
_HOMES = {
    **dict.fromkeys(("ground", "segment", "search"), "pictures"),
    "audit": "audit",
    "demo": "demo",
    "chunk": "captions",
    **dict.fromkeys(("info", "convert"), "weights"),
    "export": "export",
    "push": "hub",
}
_KEEP_NAMES = ("info", "push")  # of a hub; the others work with the file


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code, 2 for an error that the user can act on."""
    with exits_with_message():
        chosen = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        with exits_with_message():
            _run(chosen)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _run(chosen: argparse.Namespace) -> None:
    with importing():
        home = importlib.import_module(f"{__name__}.{_HOMES[chosen.command]}")
    try:
        name = getattr(chosen, "model", None)
        if name is not None and is_hub_name(name) and chosen.command not in _KEEP_NAMES:
            chosen.model = str(fetch(name))
        getattr(home, chosen.command)(chosen)
    except CaftError:
        raise
    except Exception as error:
        if (found := disk_error(error)) is None:
            raise
        code, problem = found
        full = code in (errno.ENOSPC, errno.EDQUOT)
        advice = "free some space there, or give" if full else "check the name and its permissions, or give"
        raise CaftError(f"{problem}; {advice} another place, and run the command again") from error
