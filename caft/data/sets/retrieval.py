"""Retrieval sets: images and texts that belong to each other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from caft.data.sets.captions import Item, dci, docci, iiw, karpathy, sharegpt4v, urban1k
from caft.data.sets.files import Missing, NotThereError, check_count, folder_of, whose_image_is_there
from caft.errors import DataError
from caft.params.sets import BenchmarkParams

_LAYOUTS: dict[str, Callable[[Path, BenchmarkParams], Iterator[Item]]] = {
    reader.__name__: reader for reader in (urban1k, docci, dci, sharegpt4v, iiw, karpathy)
}


@dataclass(frozen=True)
class RetrievalSet:
    """Images and captions that belong to each other.

    Attributes:
        ids: What the set's files call each caption, or its pair.
        captions: Texts, none empty.
        truth: Image of each caption, its place in `images`; None: caption j belongs to image j.
        expected: How many captions the publisher counts, where that is known; more than are here in a partial set.
    """

    ids: list[str]
    images: list[Path]
    captions: list[str]
    truth: list[int] | None = None
    expected: int | None = None

    def one_to_one(self) -> "RetrievalSet":
        """The set with the first caption of each image alone."""
        if self.truth is None:
            return self
        first: dict[int, int] = {}
        for caption, image in enumerate(self.truth):
            first.setdefault(image, caption)
        chosen = [first[image] for image in range(len(self.images))]
        return RetrievalSet([self.ids[i] for i in chosen], self.images, [self.captions[i] for i in chosen])


def load_retrieval(benchmark: BenchmarkParams) -> RetrievalSet | Missing:
    """Reads a retrieval set.

    Raises:
        DataError: The files are incomplete, or are not what the layout or the expected counts say.
    """
    folder = folder_of(benchmark)
    try:
        items = list(_LAYOUTS[benchmark.layout](folder, benchmark))
    except NotThereError as error:
        return error.missing(benchmark)
    for item in items:
        for identity, caption in zip(item.ids, item.captions, strict=True):
            if not caption:
                raise DataError(
                    f"{folder}: the caption of {identity} is empty; take the publisher's original files "
                    "(a known copy of Urban-1k lost the caption of image 592)"
                )
    items = whose_image_is_there(folder, benchmark, items, [item.image for item in items])
    captions = [caption for item in items for caption in item.captions]
    check_count(folder, benchmark, len(captions), benchmark.pairs, "pairs")
    check_count(folder, benchmark, len(items), benchmark.images, "images")
    several = any(len(item.captions) > 1 for item in items)
    return RetrievalSet(
        [identity for item in items for identity in item.ids],
        [item.image for item in items],
        captions,
        [number for number, item in enumerate(items) for _ in item.captions] if several else None,
        benchmark.pairs,
    )
