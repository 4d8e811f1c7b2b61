"""The command `caft`, also as `python -m caft`."""

import signal
import sys
import threading

from caft.model.interrupts import leave


def main() -> int:
    """Runs the command; what is wrong with the environment is told as any other error."""
    can_listen = threading.current_thread() is threading.main_thread()
    if can_listen:
        signal.signal(signal.SIGINT, leave)
    from caft.model import command

    if can_listen:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = command.main()
    if can_listen:
        signal.signal(signal.SIGINT, leave)
    return code


if __name__ == "__main__":
    sys.exit(main())
