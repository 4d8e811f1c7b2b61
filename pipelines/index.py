"""Stage index: what training reads, and the count of every row from source to index."""

import argparse
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq

from caft.captions.sentences import Splitter
from caft.data.crawl.repeats import dropped_above, repeated_pictures
from caft.data.tables.support_table import LeftOut, write_supported
from caft.data.training.index import Repeats, build_index, read_summary
from caft.data.training.ordering import put_in_order
from caft.digests import file_digest
from caft.errors import DataError, ManifestError
from caft.params import Params
from caft.progress import track
from caft.storage import in_checkout, read_json, replacing, scratch_folder, write_json
from pipelines.stage import run

logger = logging.getLogger(__name__)


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    corpora = read_json("data/corpora.json", "select")
    for corpus in corpora:
        check_manifest(corpus["name"])
        corpus["manifest"] = file_digest(Path(f"data/images/{corpus['name']}.json"))
    tables = [path for corpus in corpora for path in Path("data/captions", corpus["name"]).glob("[0-9]*.parquet")]
    copies = repeated_pictures(tables, 1, scratch_folder(params, "index"), params.storage.memory_gb)
    splitter, names = params.selected_recipe.splitter, [corpus["name"] for corpus in corpora]
    with replacing("data/index") as folder, sentences(params, names, splitter) as (sentences_root, left_out):
        repeats = Repeats(copies, dropped_above(params.data.repeated_images))
        without = build_index(folder, corpora, splitter, sentences_root=sentences_root, repeats=repeats)
        put_in_order(folder)
        entries = read_summary(folder)["corpora"]
    write_json(
        "metrics/data.json",
        {entry["name"]: account(entry, without[entry["name"]], left_out.get(entry["name"])) for entry in entries},
    )


@contextmanager
def sentences(params: Params, names: list[str], splitter: Splitter) -> Iterator[tuple[Path, dict[str, LeftOut]]]:
    """The folder of sentence tables to index, and how many sentences of each corpus are left out as unsupported.

    Without `data.exclude_unsupported` it is the stage's own; else a copy in scratch, which is removed at the end.
    """
    root, given = Path("data/sentences"), params.data.exclude_unsupported
    if given is None:
        yield root, {}
        return
    support, work = in_checkout(given), scratch_folder(params, "index")
    work.mkdir(parents=True, exist_ok=True)
    left_out: dict[str, LeftOut] = {}
    with TemporaryDirectory(dir=work, prefix="supported-") as folder:
        for name in names:
            left_out[name] = LeftOut()
            for path in track(sorted((root / name).glob("[0-9]*.parquet")), f"{name} shards without flagged sentences"):
                target = Path(folder) / name / path.name
                left_out[name] += write_supported(path, support / name / path.name, target, splitter)
            logger.info("%s: %d sentences without support are left out", name, left_out[name].sentences)
        yield Path(folder), left_out


def check_manifest(name: str) -> None:
    """Compares a corpus' caption tables, which hold the offsets, with the images that its manifest lists.

    Raises:
        ManifestError: They are not of the same shards, or not of as many images.
    """
    manifest = read_json(f"data/images/{name}.json", f"fetch@{name}")
    folder = Path("data/captions") / name
    tars: dict[str, str] = read_json(f"{folder}.json", f"captions@{name}")["shards"]
    listed = {shard["name"]: (shard["sha256"], shard["successes"]) for shard in manifest["shards"]}
    found = {
        path.stem: (tars.get(path.stem), pq.read_metadata(path).num_rows) for path in folder.glob("[0-9]*.parquet")
    }
    if wrong := sorted(shard for shard in listed.keys() | found.keys() if listed.get(shard) != found.get(shard)):
        shard = wrong[0]
        here, expected = (
            f"tar {str(tar)[:12]} with {rows} images"
            for tar, rows in (side.get(shard, ("-", 0)) for side in (found, listed))
        )
        raise ManifestError(
            f"{folder}: {len(wrong)} shards are not those of data/images/{name}.json, the first is {shard}: its captions are "
            f"of {here}, the manifest has {expected}; run `dvc repro captions@{name}`"
        )


def account(corpus: dict[str, Any], no_sentence: int, left_out: LeftOut | None = None) -> dict[str, Any]:
    """Rows of a corpus from its source to the index, by its entry there; `left_out` are sentences without support.

    Raises:
        DataError: Some rows were neither kept nor counted as dropped.
    """
    name, rows_out = corpus["name"], corpus["count"]
    source = read_json(f"data/urls/{name}.json", f"source@{name}")
    manifest = read_json(f"data/images/{name}.json", f"fetch@{name}")
    dropped = Counter(source["dropped"]) + Counter(manifest["lost"])
    unsupported = left_out.images if left_out is not None else 0
    if no_sentence > unsupported:
        dropped["no_sentence"] = no_sentence - unsupported
    if unsupported:
        dropped["unsupported"] = unsupported
    if "repeated_images" in corpus:
        dropped["repeated_image"] = corpus["repeated_images"]
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
        **({} if left_out is None else {"unsupported": left_out._asdict()}),
    }


if __name__ == "__main__":
    run(main)
