"""Images that are trained on and are one of an evaluation set's: found by perceptual hashes, and then compared in colour.

The hash is pHash: signs of the lowest frequencies of the grey picture at 32 x 32 against their median [Zauner 2010].
Another size or another encoding of a picture changes a few of its 64 bits; those of unrelated photographs differ in about
half. Drawings with little on them can have one hash and yet be others, so a pair counts once its thumbnails agree too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from caft.data.sets import LOADERS, Missing, ReferringSet
from caft.data.tables.cluster import ray_tasks
from caft.data.training.reader import TrainingIndex
from caft.errors import DataError
from caft.params.sets import BenchmarkParams
from caft.storage import replacing
from caft.transforms import open_image

Hashes = NDArray[np.uint64]

# Of 64; as strict as finds copies.
MOST_BITS = 4
# Mean difference of two thumbnails in steps of 255: a copy's are 1 to 4, unrelated pictures' are 30 and more.
MOST_STEPS = 8.0
# A hash with fewer bits that are set, or that are not, is of a picture of almost one colour, and like all of these.
_FEWEST_BITS = 8
_SIDE, _FREQUENCIES = 32, 8
_IMAGES_AT_ONCE, _FILES_AT_ONCE = 10_000, 1000
_CANDIDATES_AT_ONCE = 1 << 22


def perceptual_hash(image: Image.Image) -> int:
    """64 bits of an RGB picture; see the module."""
    grey = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), np.float64)
    low = dctn(grey)[:_FREQUENCIES, :_FREQUENCIES].ravel()
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def has_detail(hashes: Hashes) -> NDArray[np.bool_]:
    """Which hashes are of pictures with enough detail to tell them apart, (n,).

    Those of almost one colour have too little, as have those that could not be read.
    """
    counts = np.bitwise_count(hashes)
    return np.asarray((counts >= _FEWEST_BITS) & (counts <= 64 - _FEWEST_BITS))


def near_duplicates(
    first: Hashes, second: Hashes, most: int = MOST_BITS
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of hashes that differ in few bits, exactly: such a pair agrees in at least one of `most` + 1 bands of bits.

    Args:
        first: (n,), the larger set.
        second: (m,).
        most: Bits in which a pair may differ.

    Returns:
        Places in `first` and `second`, (pairs, 2), sorted, and the number of bits in which they differ, (pairs,).
    """
    of_first, of_second = np.flatnonzero(has_detail(first)), np.flatnonzero(has_detail(second))
    edges = np.linspace(0, 64, most + 2).astype(int)
    found: list[NDArray[np.int64]] = [np.zeros((0, 2), np.int64)]
    for low, high in zip(edges, edges[1:], strict=False):
        mask = np.uint64((1 << int(high - low)) - 1)
        keys = (first[of_first] >> np.uint64(low)) & mask
        order = np.argsort(keys, kind="stable")
        asked = (second[of_second] >> np.uint64(low)) & mask
        begin = np.searchsorted(keys, asked, "left", sorter=order)
        count = np.searchsorted(keys, asked, "right", sorter=order) - begin
        for block in _blocks(count):
            repeats = np.repeat(np.arange(block.start, block.stop), count[block])
            within = np.arange(len(repeats)) - np.repeat(np.cumsum(count[block]) - count[block], count[block])
            pairs = np.stack([of_first[order[begin[repeats] + within]], of_second[repeats]], axis=1)
            close = np.bitwise_count(first[pairs[:, 0]] ^ second[pairs[:, 1]]) <= most
            found.append(pairs[close])
    pairs = np.unique(np.concatenate(found), axis=0)
    return pairs, np.bitwise_count(first[pairs[:, 0]] ^ second[pairs[:, 1]]).astype(np.int64)


def _blocks(counts: NDArray[np.int64]) -> Iterator[slice]:
    """Slices of the places whose candidates together are few enough to be held; of one place they may be more."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _CANDIDATES_AT_ONCE, "right")))
        yield slice(start, stop)
        start = stop


def thumbnail(image: Image.Image) -> NDArray[np.float32]:
    """An RGB picture at 32 x 32, (32, 32, 3), 0 to 255."""
    return np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32)


def confirmed(
    pairs: NDArray[np.int64],
    first: Callable[[int], Image.Image],
    second: Callable[[int], Image.Image],
) -> NDArray[np.bool_]:
    """Which pairs of `near_duplicates` are one picture in colour too, (pairs,).

    Args:
        pairs: Places, (pairs, 2).
        first: Gives the picture of the first place.
        second: Of the second.
    """
    ours, theirs = (functools.lru_cache(1024)(lambda place, get=get: thumbnail(get(place))) for get in (first, second))
    return np.array([np.abs(ours(i) - theirs(j)).mean() <= MOST_STEPS for i, j in pairs.tolist()], bool)


class _Part(NamedTuple):
    """Images `begin` to `end` of an index in the order in which they lie, and the file for their hashes."""

    begin: int
    end: int
    path: Path
    folder: Path
    images: Path

    @property
    def places(self) -> Path:
        """The file of the positions of all images, in the order in which they lie."""
        return self.path.with_name("places.npy")


def hash_index(index: Path, images: Path, kept: Path) -> Hashes:
    """Hashes of all images of an index, (images,); 0 for one that cannot be decoded.

    Args:
        index: The training index.
        images: Holds a folder of shards for each corpus.
        kept: Folder of this index' own, for the hashes of its parts: what is there is not made again.

    Raises:
        DataError: A shard is missing, or is not the one that was indexed.
    """
    held = np.load(index / "images.npy", mmap_mode="r")
    places = np.lexsort((held["offset"], held["shard"]))
    shards = held["shard"][places]
    starts = np.flatnonzero(np.diff(shards, prepend=-1))
    # Whole shards, so that each tar is one task's, and small ones together.
    begins = starts[np.diff(starts // _IMAGES_AT_ONCE, prepend=-1) > 0].tolist()
    parts = [
        _Part(begin, end, kept / f"{begin:09d}.npy", index, images)
        for begin, end in zip(begins, [*begins[1:], len(shards)], strict=True)
    ]
    missing = [part for part in parts if not part.path.exists()]
    if missing:
        _save(missing[0].places, places)
    ray_tasks(_hash_part, missing, "parts of the index hashed")
    hashes = np.empty(len(places), np.uint64)
    hashes[places] = np.concatenate([np.load(part.path) for part in parts])
    return hashes


def _hash_part(part: _Part) -> None:
    index, places = TrainingIndex(part.folder, part.images), np.load(part.places, mmap_mode="r")
    found = [_hash(index.image_bytes(place)) for place in places[part.begin : part.end].tolist()]
    _save(part.path, np.array(found, np.uint64))


def _save(path: Path, values: NDArray[Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)


def _hash(picture: bytes | Path) -> int:
    try:
        return perceptual_hash(open_image(picture))
    except DataError:
        return 0  # which tells nothing


def hash_files(paths: Sequence[Path]) -> Hashes:
    """Hashes of pictures, (paths,); 0 for one that cannot be decoded."""
    blocks = [tuple(paths[first : first + _FILES_AT_ONCE]) for first in range(0, len(paths), _FILES_AT_ONCE)]
    return np.array([one for block in ray_tasks(_hash_block, blocks, "blocks hashed") for one in block], np.uint64)


def _hash_block(paths: Sequence[Path]) -> list[int]:
    return [_hash(path) for path in paths]


def images_of(benchmark: BenchmarkParams) -> list[Path] | Missing:
    """The pictures of an evaluation set of any kind, each once."""
    found = LOADERS[benchmark.kind](benchmark)
    if isinstance(found, Missing):
        return found
    paths = [image.path for image in found.images] if isinstance(found, ReferringSet) else found.images
    return list(dict.fromkeys(paths))
