"""Stage select: name and content fingerprint of each selected corpus."""

import argparse
from pathlib import Path

from caft.data.tables.work import content_fingerprint
from caft.params import Params
from caft.storage import write_json
from pipelines.stage import run


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    write_json(
        "data/corpora.json",
        [
            {
                "name": name,
                # The counts too, since metrics/data.json is made from them by a stage that depends on this file alone; and,
                # in the manifest, the fingerprint of the list in whose order that stage puts the images.
                "fingerprint": content_fingerprint(
                    Path(f"data/urls/{name}.json"),
                    Path(f"data/images/{name}.json"),
                    Path("data/captions") / name,
                    Path("data/sentences") / name,
                ),
            }
            for name in params.corpora
        ],
    )


if __name__ == "__main__":
    run(main)
