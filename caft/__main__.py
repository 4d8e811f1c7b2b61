"""`python -m caft`: the command `caft`, also where it is not installed."""

import sys

from caft.model.command import main

if __name__ == "__main__":
    sys.exit(main())
