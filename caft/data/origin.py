"""Where a corpus' pictures come from: the open web, or a server of our own for the rendered corpus."""

from contextlib import AbstractContextManager, nullcontext

from caft.data.scenes.server import serving
from caft.params import RecaptionCorpus, ScenesCorpus


def origin(corpus: RecaptionCorpus | ScenesCorpus) -> AbstractContextManager[None]:
    """Makes the URLs of a corpus answer while the block runs; for corpora of the web there is nothing to do."""
    if isinstance(corpus, ScenesCorpus):
        return serving(corpus.port, corpus.seed, corpus.image_size)
    return nullcontext()
