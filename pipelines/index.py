"""Stage index: what training reads, and the count of every row from source to index."""

import argparse
from pathlib import Path

from caft.data.training.accounts import account, check_manifest
from caft.data.training.index import build_index, read_summary
from caft.digests import file_digest
from caft.params import Params
from caft.storage import read_json, replacing, write_json
from pipelines.stage import run


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    corpora = read_json("data/corpora.json", "select")
    for corpus in corpora:
        check_manifest(corpus["name"])
        corpus["manifest"] = file_digest(Path(f"data/images/{corpus['name']}.json"))
    with replacing("data/index") as folder:
        without = build_index(folder, corpora, params.selected_recipe.splitter)
        counts = {entry["name"]: entry["count"] for entry in read_summary(folder)["corpora"]}
    write_json(
        "metrics/data.json",
        {corpus["name"]: account(corpus, counts[corpus["name"]], without[corpus["name"]]) for corpus in corpora},
    )


if __name__ == "__main__":
    run(main)
