"""The command `caft`, also as `python -m caft`."""

import signal
import sys

from caft.errors import exits_with_message, leave_at_once
from caft.model.interrupts import importing


def main() -> int:
    """Runs the command; what is wrong with the environment is told as any other error."""
    with importing() as can_listen, exits_with_message():
        from caft.model import command
    code = command.main()
    if can_listen:
        signal.signal(signal.SIGINT, leave_at_once)
    return code


if __name__ == "__main__":
    sys.exit(main())
