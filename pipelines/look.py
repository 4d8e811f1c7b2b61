"""Stage look: what the user's tables, pictures, checkpoints and sets are now; stages that read them depend on it.

It runs at every `dvc repro`, in about a second, and what follows runs only where something has changed.
"""

import argparse
from pathlib import Path

from caft.data.look import look
from caft.params import Params
from caft.weights.hub import of_setting
from pipelines.stage import run


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Writes ``data/seen``."""
    look(params, Path("data/seen"), of_setting)


if __name__ == "__main__":
    run(main)
