"""Stage source@CORPUS: the corpus' table to data/urls, and the evaluation sets that the corpus brings."""

import argparse
from pathlib import Path

from caft.data.scenes.corpus import write_csv
from caft.data.scenes.false_sentences import write_truth
from caft.data.scenes.sets import write_benchmarks
from caft.data.tables.records import CUSTOM, DREAMLIP
from caft.data.tables.source import convert_table
from caft.locking import locked
from caft.params import Params
from caft.params.corpora import CustomCorpus, ScenesCorpus
from caft.storage import in_checkout, replacing, scratch_folder
from pipelines.stage import run


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Writes ``data/urls/<corpus>.*`` and ``data/benchmarks/<corpus>``."""
    name: str = arguments.corpus
    corpus = params.corpus[name]
    work = scratch_folder(params, "source")
    memory_gb = params.storage.memory_gb
    with replacing(Path("data/benchmarks") / name) as benchmarks:
        benchmarks.mkdir()
        if isinstance(corpus, ScenesCorpus):
            # Rendered corpora enter by the same door as published ones.
            write_benchmarks(benchmarks, corpus)
            # The lock: an experiment's copy may render other scenes at the same time, into the same table.
            with locked(work, f"rendering the table of {name}"):
                csv_path = work / f"{name}.csv"
                if planted := write_csv(csv_path, corpus):
                    write_truth(benchmarks / "false_sentences.csv", planted)  # beside the sets: no training reads it
                convert_table(csv_path, name, Path("data/urls"), work, DREAMLIP, memory_gb)
        else:
            text = f"The corpus {name} brings no evaluation sets. Folders of other sets are described one level up.\n"
            (benchmarks / "README.md").write_text(text, encoding="utf-8")
            if isinstance(corpus, CustomCorpus):
                path, columns = corpus.table, CUSTOM
            else:
                path, columns = corpus.csv, DREAMLIP
            if corpus.packed is not None:
                columns = columns.for_packed()
            table = in_checkout(path)
            convert_table(table, name, Path("data/urls"), work, columns, memory_gb, corpus.minimum_usable)


if __name__ == "__main__":
    run(main, corpus=True)
