"""Retrieval sets: images and texts that belong to each other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from caft.captions.words import unreadable
from caft.data.sets.captions import Item, dci, docci, iiw, karpathy, sharegpt4v, urban1k
from caft.data.sets.files import Missing, NotThereError, folder_of
from caft.data.sets.findings import Findings, LeftOut
from caft.data.sets.groups import FILE, Group, read_groups
from caft.data.sets.pictures import can_be_scored, find_picture
from caft.errors import DataError
from caft.params.sets import BenchmarkParams

_LAYOUTS: dict[str, Callable[[Path, BenchmarkParams, Findings], Iterator[Item]]] = {
    reader.__name__: reader for reader in (urban1k, docci, dci, sharegpt4v, iiw, karpathy)
}
# Copies that go round without a caption which the publisher's files have.
_LOST = {("urban1k", "592"): " (a known copy lost it; the publisher's files have it)"}


@dataclass(frozen=True)
class RetrievalSet:
    """Images and captions that belong to each other.

    Attributes:
        ids: What the set's files call each caption, or its pair.
        captions: Texts, each with a word.
        truth: Image of each caption, its place in `images`; None: caption j belongs to image j.
        expected: How many captions the publisher counts, where that is known; more than are here in a partial set.
        left_out: What of it is not here.
        groups: Look-alikes among its pairs, where the set says which are.
    """

    ids: list[str]
    images: list[Path]
    captions: list[str]
    truth: list[int] | None = None
    expected: int | None = None
    left_out: LeftOut = LeftOut()
    groups: tuple[Group, ...] = ()

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
        BadItemsError: Captions or images cannot be scored, unless the set may be partial; or counts are not the expected.
        DataError: The files are not what the layout says.
    """
    folder = folder_of(benchmark)
    findings = Findings(folder, benchmark)
    try:
        read = list(_LAYOUTS[benchmark.layout](folder, benchmark, findings))
    except NotThereError as error:
        return error.missing(benchmark)
    items = [item for item in (_scored(item, benchmark.layout, findings) for item in read) if item is not None]
    captions = [caption for item in items for caption in item.captions]
    findings.count(len(captions), benchmark.pairs, "pairs")
    findings.count(len(items), benchmark.images, "images")
    left_out = findings.settle()
    several = any(len(item.captions) > 1 for item in items)
    ids = [identity for item in items for identity in item.ids]
    if several and (folder / FILE).exists():
        raise DataError(f"{folder / FILE}: groups are of sets with one caption an image; remove the file")
    return RetrievalSet(
        ids,
        [item.image for item in items],
        captions,
        [number for number, item in enumerate(items) for _ in item.captions] if several else None,
        benchmark.pairs,
        left_out,
        # Of a file of which a set has the first pairs alone, another set may have more.
        () if several else read_groups(folder, ids, benchmark.partial or benchmark.first is not None),
    )


def _scored(item: Item, layout: str, findings: Findings) -> Item | None:
    """The item without the captions that say nothing; None where its image or all of them are bad."""
    pairs = []
    for identity, caption in zip(item.ids, item.captions, strict=True):
        if why := unreadable(caption):
            findings.bad("captions without words", identity, why + _LOST.get((layout, identity), ""))
        else:
            pairs.append((identity, caption))
    image = find_picture(item.image)
    if not can_be_scored(image, findings) or not pairs:
        return None
    return Item([identity for identity, _ in pairs], image, [caption for _, caption in pairs])
