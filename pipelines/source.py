"""Stage source@CORPUS: the published CSV to data/urls, and the evaluation sets that the corpus brings."""

import argparse
from pathlib import Path

from caft.data.locking import locked
from caft.data.scenes.benchmarks import write_benchmarks
from caft.data.scenes.corpus import write_csv
from caft.data.source import convert_csv
from caft.params import Params, ScenesCorpus
from caft.storage import main_checkout, replacing, root
from pipelines.stage import run


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Writes ``data/urls/<corpus>.*`` and ``data/benchmarks/<corpus>``."""
    name: str = arguments.corpus
    corpus = params.corpus[name]
    work = root(params) / "work" / "source"
    with replacing(Path("data/benchmarks") / name) as benchmarks:
        benchmarks.mkdir()
        if isinstance(corpus, ScenesCorpus):
            # Rendered corpora enter by the same door as published ones.
            write_benchmarks(benchmarks, corpus)
            # The lock: an experiment's copy may render other scenes at the same time, into the same table.
            with locked(work, f"rendering the table of {name}"):
                csv_path = work / f"{name}.csv"
                write_csv(csv_path, corpus)
                convert_csv(csv_path, name, Path("data/urls"), work)
        else:
            csv_path = Path(corpus.csv)
            if not csv_path.exists():  # an experiment's copy has no untracked files
                csv_path = main_checkout() / csv_path
            text = f"The corpus {name} brings no evaluation sets. Folders of other sets are described one level up.\n"
            (benchmarks / "README.md").write_text(text, encoding="utf-8")
            convert_csv(csv_path, name, Path("data/urls"), work)


if __name__ == "__main__":
    run(main, corpus=True)
