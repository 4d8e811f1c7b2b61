"""Stage of pipelines/audit: how far the pictures of the selected corpora bear out each sentence, as tables and a page."""

import argparse
import json
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from caft import storage
from caft.data.crawl.fetch import ensure_images
from caft.data.tables.work import content_fingerprint, move_to, resumable
from caft.digests import code_digest, file_digest
from caft.errors import DataError
from caft.eval.analysis.corpus_support import Shard, choose_others, flag, read_picture, read_rows, score_shard
from caft.eval.report.worst import MOST, Worst, worst_page
from caft.model.model import Model
from caft.params import Params, arithmetic
from caft.progress import track
from caft.weights.placed import load_model
from pipelines.stage import run

FOLDER, PAGES = Path("data/support"), Path("reports/support")


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Writes ``data/support/<corpus>``, ``reports/support/<corpus>.html`` and ``metrics/audit/support.json``."""
    model, splitter = load_model(arguments.model), params.selected_recipe.splitter
    weights, counts = file_digest(Path(arguments.model)), {}
    names = [corpus["name"] for corpus in storage.read_json("data/corpora.json", "select")]
    for name in names:
        ensure_images(params, name, storage.read_json(f"data/images/{name}.json", f"fetch@{name}"))
        captions, images = Path("data/captions") / name, storage.images_folder(params, name)
        shards = [
            Shard(path, Path("data/sentences") / name / path.name, images / f"{path.stem}.tar")
            for path in sorted(captions.glob("[0-9]*.parquet"))
        ]
        if not shards:
            raise DataError(f"{captions}: holds no table; run `dvc repro captions@{name}`")
        made_from = [content_fingerprint(folder) for folder in (captions, Path("data/sentences") / name)]
        made_from += [weights, splitter, arithmetic.current(), code_digest(["caft.eval.analysis.corpus_support"])]
        judge = choose_others(model.network, shards)
        work_folder = storage.scratch_folder(params, "support") / name
        with resumable(work_folder, json.dumps(made_from), f"auditing {name}") as work:
            unreadable = 0
            for shard in track(shards, f"{name} shards audited"):
                target, noted = work / shard.captions.name, work / f"{shard.name}.json"
                if not noted.exists():
                    storage.write_json(noted, score_shard(judge, shard, splitter, target))
                unreadable += storage.read_json(noted, "audit")["unreadable"]
            for noted in work.glob("[0-9]*.json"):
                noted.unlink()
            tables = [work / shard.captions.name for shard in shards]
            counts[name] = {**flag(tables, arguments.share), "unreadable": unreadable}
            page = worst_page(name, counts[name], worst(model, shards, tables))
            storage.write_text(PAGES / f"{name}.html", page)
            move_to(FOLDER / name, work)
    storage.write_json("metrics/audit/support.json", counts)


def worst(model: Model, shards: list[Shard], tables: list[Path]) -> list[Worst]:
    """The sentences with the least support, the least first, with picture and map."""
    found = []
    for place, path in enumerate(tables):
        table = pq.read_table(path).filter(pc.field("support").is_valid())
        rows = table.sort_by("support").slice(0, MOST).to_pylist()
        found += [(row["support"], place, row) for row in rows]
    cases = []
    for support, place, row in sorted(found, key=lambda item: item[:2])[:MOST]:
        shard = shards[place]
        picture = read_picture(shard, next(one for one in read_rows(shard) if one.row_id == row["row_id"]))
        values = model.ground(picture, [row["sentence"]])[0]
        name = f"row {row['row_id']}, {row['caption']}"
        cases.append(Worst(name, picture, row["sentence"], row["logit"], support, row["flagged"], values))
    return cases


def more(parser: argparse.ArgumentParser) -> None:
    """The stage's own arguments."""
    parser.add_argument(
        "--model", default="models/caft.safetensors", help="weights that judge (models/caft.safetensors)"
    )
    parser.add_argument(
        "--share", type=float, metavar="S", help="flag this share of the sentences; without, Tukey's fence says which"
    )


if __name__ == "__main__":
    run(main, more=more)
