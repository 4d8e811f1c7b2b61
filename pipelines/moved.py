"""After a checkout or its storage was copied or moved: sets MLflow's database to where its artifacts are now.

Training and evaluation say when this is needed. What else lies in the storage is found wherever it is.
"""

import argparse

from caft import storage
from caft.params import Params
from caft.train.tracking.moved import mend
from pipelines.stage import run


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the command."""
    changed = mend(params)
    where = f"{storage.tracking_uri(params)}: all artifacts are below {storage.root(params)}"
    if changed:
        where += f"; set to it were {', '.join(f'{count} of {name}' for name, count in changed.items())}"
    print(where)


if __name__ == "__main__":
    run(main)
