"""The command `caft`, also as `python -m caft`."""

import os
import signal
import sys
import threading

from caft.errors import exits_with_message


def main() -> int:
    """Runs the command; what is wrong with the environment is told as any other error."""
    can_listen = threading.current_thread() is threading.main_thread()
    if can_listen:
        signal.signal(signal.SIGINT, _leave)
    with exits_with_message():
        from caft.model import command
    if can_listen:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = command.main()
    if can_listen:
        signal.signal(signal.SIGINT, _leave)
    return code


def _leave(number: int, frame: object) -> None:
    """Ends the process at once: during imports and at its end, libraries would swallow or wrap a KeyboardInterrupt."""
    os.write(2, b"interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
