"""Puts an index into the order of its corpora's lists, in whatever shards the images lie.

A folder of shards grows by rounds: rows that are added, changed or tried again land in further shards. So the order in which
images lie is one of the folder's history, and what is drawn for position i of an index must not be. Positions here
follow data/images/C.parquet, by md5(url) and row_id, in which a folder that was filled in one round lies already.

Then equal pictures and captions give equal arrays, byte for byte, but for shard and offset in `images.npy` and what
`index.json` says of the folder. By these two the name of a run (`caft.train.inputs`) differs between two folders with the same
data, so a run that was begun is not gone on with; its weights would be the same. With `data.shards_at_once` they would not:
an epoch's order then follows the shards themselves.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from caft.data.tables.fields import FIELDS
from caft.data.tables.schema import open_table
from caft.data.training.index import read_repeats, read_summary
from caft.errors import DataError
from caft.progress import track

# Of data/images/C.parquet, what says where an image comes; `cause` is that of a row's loss.
LISTED = pa.schema([("row_id", pa.int64()), ("cause", pa.string())])
# Images that are copied at a time, at the most.
_AT_ONCE = 8192
_SUMS = ("captions", "token_ends", "text_ends")


def put_in_order(folder: Path, lists: Path = Path("data/images")) -> bool:
    """Rewrites the arrays of an index so that the images of each corpus come as in its list; where they do, nothing is done.

    It holds up to 32 bytes an image in memory, and on disk the largest array once more.

    Args:
        folder: What `build_index` has written, and nobody reads yet.
        lists: Holds the list C.parquet of each corpus C.

    Returns:
        Whether an image was moved.

    Raises:
        DataError: There is no list, or an image is not in it.
        SchemaError: A list has not the expected columns.
    """
    row_ids = _mapped(folder, "images")["row_id"]
    order = np.arange(len(row_ids))
    for corpus in read_summary(folder)["corpora"]:
        first, end = corpus["first"], corpus["first"] + corpus["count"]
        order[first:end] = first + listed_order(lists / f"{corpus['name']}.parquet", row_ids[first:end])
    if not len(order) or (np.diff(order) == 1).all():
        return False
    for name, start in _starts(folder).items():
        _reorder(folder, name, start, order)
    _reorder_repeats(folder, order)
    return True


def listed_order(listed: Path, row_ids: np.ndarray) -> np.ndarray:
    """Places of some rows in the order in which a list has them.

    Args:
        listed: A table with the columns of `LISTED`; its rows with a cause, and those not asked for, are passed over.
        row_ids: Each once, (rows,), int64.

    Returns:
        Places in `row_ids`, (rows,), int64.

    Raises:
        DataError: There is no list, or a row is not in it.
        SchemaError: The list has not the expected columns.
    """
    by_row = np.argsort(row_ids)
    ascending = row_ids[by_row]
    ranks = np.full(len(row_ids), -1)
    passed = 0
    with open_table(listed, LISTED) as table:
        for batch in table.iter_batches(columns=LISTED.names) if len(row_ids) else ():
            rows = batch.filter(pc.is_null(batch["cause"]))["row_id"].to_numpy()
            places = np.searchsorted(ascending, rows, "right") - 1
            is_asked = ascending[places] == rows
            ranks[by_row[places[is_asked]]] = passed + np.flatnonzero(is_asked)
            passed += len(rows)
    del by_row, ascending
    if (unlisted := row_ids[ranks < 0]).size:
        raise DataError(
            f"{listed}: {len(unlisted)} of {len(row_ids)} images of the index are not in it, the first is row "
            f"{unlisted.min()}; it was written by another fetch: run `dvc repro --force fetch@{listed.stem}`"
        )
    return np.argsort(ranks)


def _mapped(folder: Path, name: str) -> np.ndarray:
    return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))


def _starts(folder: Path) -> dict[str, Callable[[int], int]]:
    """For each array, in the order in which they can be rewritten, where an image's part of it starts."""
    captions, token_ends, text_ends = (_mapped(folder, name) for name in ("captions", "token_ends", "text_ends"))

    def sentences(image: int) -> int:
        return int(captions[image * len(FIELDS)])

    return {
        "tokens": lambda image: _before(token_ends, sentences(image)),
        "text": lambda image: _before(text_ends, sentences(image)),
        "token_ends": sentences,
        "text_ends": sentences,
        "captions": lambda image: image * len(FIELDS),
        "images": lambda image: image,
    }


def _before(ends: np.ndarray, number: int) -> int:
    """What an array of running sums has reached before an entry."""
    return int(ends[number - 1]) if number else 0


def _reorder(folder: Path, name: str, start: Callable[[int], int], order: np.ndarray) -> None:
    """Rewrites an array with the parts of the images in another order; running sums are summed anew."""
    held = _mapped(folder, name)
    path, temporary = folder / f"{name}.npy", folder / f".{name}"
    with temporary.open("wb", 1 << 22) as out:
        header = {"descr": np.lib.format.dtype_to_descr(held.dtype), "fortran_order": False, "shape": held.shape}
        np.lib.format.write_array_header_1_0(out, header)
        if name == "captions":  # holds what its sums have reached before each entry, not after it
            out.write(held[:1].tobytes())
            held = held[1:]
        reached = 0
        for first, end in _stretches(order, name):
            part = held[start(first) : start(end)]
            if name in _SUMS:
                part = part + (reached - _before(held, start(first)))
                reached = int(part[-1])  # every image has a sentence
            out.write(part.tobytes())
    temporary.replace(path)


def _stretches(order: np.ndarray, name: str) -> Iterator[tuple[int, int]]:
    """First and end of each stretch of images that lie one after the other and stay so."""
    for begin in track(range(0, len(order), _AT_ONCE), f"blocks of {name} put in order"):
        block = order[begin : begin + _AT_ONCE]
        edges = np.flatnonzero(np.diff(block) != 1) + 1
        firsts, lasts = block[np.insert(edges, 0, 0)], block[np.append(edges, len(block)) - 1]
        yield from zip(firsts.tolist(), (lasts + 1).tolist(), strict=True)


def _reorder_repeats(folder: Path, order: np.ndarray) -> None:
    """Rewrites which pictures are there more than once; the first of a picture may be another one now."""
    repeats = read_repeats(folder)
    if not len(repeats):
        return
    moved_to = np.empty_like(order)
    moved_to[order] = np.arange(len(order))
    places = moved_to[repeats[:, 0]]
    by_place = np.argsort(places)
    pictures = np.unique(repeats[:, 1], return_inverse=True)[1][by_place]
    _, first_of = np.unique(pictures, return_index=True)
    ascending = places[by_place]
    np.save(folder / "repeats.npy", np.stack([ascending, ascending[first_of[pictures]]], axis=1))
