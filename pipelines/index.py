"""Stage index: what training reads, and the count of every row from source to index."""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from caft.data.index import build_index, read_summary
from caft.errors import DataError
from caft.params import Params
from caft.storage import replacing, write_json
from pipelines.stage import run


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    corpora = json.loads(Path("data/corpora.json").read_text())
    with replacing("data/index") as folder:
        without = build_index(folder, corpora, params.selected_recipe.splitter)
        counts = {entry["name"]: entry["count"] for entry in read_summary(folder)["corpora"]}
    write_json(
        "metrics/data.json",
        {corpus["name"]: account(corpus, counts[corpus["name"]], without[corpus["name"]]) for corpus in corpora},
    )


def account(corpus: dict[str, str], rows_out: int, no_sentence: int) -> dict[str, Any]:
    """Rows of a corpus from its source to the index.

    Raises:
        DataError: Some rows were neither kept nor counted as dropped.
    """
    name = corpus["name"]
    source = json.loads(Path(f"data/urls/{name}.json").read_text())
    manifest = json.loads(Path(f"data/images/{name}.json").read_text())
    dropped = Counter(source["dropped"]) + Counter(manifest["lost"])
    if no_sentence:
        dropped["no_sentence"] = no_sentence
    if source["rows_in"] != rows_out + dropped.total():
        raise DataError(
            f"{name}: {source['rows_in']} rows in the source, {rows_out} in the index and {dropped.total()} counted as "
            f"dropped ({dict(dropped)}); run `dvc repro --force source@{name}`"
        )
    return {
        "rows_in": source["rows_in"],
        "rows_out": rows_out,
        "dropped": dict(sorted(dropped.items())),
        "fingerprint": corpus["fingerprint"],
    }


if __name__ == "__main__":
    run(main)
