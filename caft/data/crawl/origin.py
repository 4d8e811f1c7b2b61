"""Where a corpus' table and pictures come from: the user's files, the open web, or a server of our own for scenes."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from caft.data.scenes.server import serving
from caft.params import CorpusParams, CustomCorpus, ScenesCorpus
from caft.storage import main_checkout


def origin(corpus: CorpusParams) -> AbstractContextManager[None]:
    """Makes the URLs of a corpus answer while the block runs; for corpora of the web there is nothing to do."""
    if isinstance(corpus, ScenesCorpus):
        return serving(corpus.port, corpus.seed, corpus.image_size)
    return nullcontext()


def in_checkout(path: str) -> Path:
    """Returns the user's file or folder of that name; from an experiment's copy, which has none, the main checkout's."""
    return Path(path) if Path(path).exists() else main_checkout() / path


def pictures_home(corpus: CorpusParams) -> Path | None:
    """Returns the folder from which a custom table's file names are taken: its own; None for other corpora."""
    return in_checkout(corpus.table).resolve().parent if isinstance(corpus, CustomCorpus) else None
