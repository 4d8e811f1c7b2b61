"""The command `caft`, also as `python -m caft`."""

import signal
import sys
import threading

from caft.errors import exits_with_message, leave_at_once


def main() -> int:
    """Runs the command; what is wrong with the environment is told as any other error."""
    is_main = threading.current_thread() is threading.main_thread()
    can_listen = (
        is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )  # in the background it is not
    if can_listen:
        signal.signal(signal.SIGINT, leave_at_once)
    with exits_with_message():
        from caft.model import command
    if can_listen:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = command.main()
    if can_listen:
        signal.signal(signal.SIGINT, leave_at_once)
    return code


if __name__ == "__main__":
    sys.exit(main())
