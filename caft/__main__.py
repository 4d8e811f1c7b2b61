"""The command `caft`, also as `python -m caft`."""

import sys

from caft.errors import exits_with_message


def main() -> int:
    """Runs the command; what is wrong with the environment is told as any other error."""
    with exits_with_message():
        from caft.model import command
    return command.main()


if __name__ == "__main__":
    sys.exit(main())
