"""What training reads, for a person to look at: statistics of captions and sampled pairs of image and captions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from caft.data.catalog import caption_statistics
from caft.data.reader import TrainingIndex
from caft.data.schema import FIELDS, LONG_FIELDS
from caft.data.transforms import open_image
from caft.errors import DataError
from caft.eval.examples import spread


@dataclass(frozen=True)
class Sample:
    """An image of the training index with its raw caption and one long caption, by name; empty ones are left out."""

    corpus: str
    row_id: int
    image: Image.Image
    captions: dict[str, str]


@dataclass(frozen=True)
class Corpus:
    """What training reads.

    Attributes:
        statistics: Of captions, by corpus and field, as `caption_statistics` gives them.
        samples: At even distances through the index.
        missing: Why there are no samples, if there are none.
    """

    statistics: dict[str, dict[str, dict[str, Any]]]
    samples: list[Sample]
    missing: str = ""


def describe_corpus(index_folder: Path, captions: Path, sentences: Path, images: Path, count: int) -> Corpus:
    """Reads the training index as training does, so that a wrong join of images and captions is seen.

    Args:
        index_folder: The training index.
        captions: Holds a folder of caption tables for each corpus.
        sentences: Holds a folder of sentence tables for each corpus.
        images: Holds a folder of shards for each corpus.
        count: Samples.

    Raises:
        DataError: There is no index, or tables of a corpus in it are missing.
    """
    index = TrainingIndex(index_folder, images)
    names = [corpus["name"] for corpus in index.corpora]
    statistics = {name: caption_statistics(captions / name, sentences / name, index.splitter) for name in names}
    try:
        samples = [_sample(index, i, place) for place, i in enumerate(spread(len(index), count))]
    except DataError as error:  # scores and curves can be shown where the images are not
        return Corpus(statistics, [], str(error))
    return Corpus(statistics, samples)


def _sample(index: TrainingIndex, i: int, place: int) -> Sample:
    """Sample number `place`; the long captions of the three annotators take turns."""
    long = LONG_FIELDS[place % len(LONG_FIELDS)]
    counts = dict(zip(FIELDS, index.num_sentences(i), strict=True))
    captions = {
        field: index.chunk_text(i, FIELDS.index(field), list(range(counts[field])))
        for field in ("raw", long)
        if counts[field]
    }
    corpus = next(c["name"] for c in reversed(index.corpora) if int(c["first"]) <= i)
    return Sample(corpus, int(index.row_ids[i]), open_image(index.image_bytes(i)), captions)
