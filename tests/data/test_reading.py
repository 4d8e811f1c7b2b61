"""What holds for the order and the reading of any corpus: each row once, whoever reads, from any step on."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from caft.data.training.batch import Batch, BatchOrder, Blocks, Sampling, TrainingSet, collate
from caft.data.training.index import IMAGE
from caft.data.training.reader import TrainingIndex
from caft.errors import DataError
from tests.data.test_index import index_of, made  # noqa: F401

PROJECT = Path(__file__).parents[2]
RANKS = (1, 2, 4)
Place = tuple[int, int]


@st.composite
def corpora(draw: st.DrawFn) -> tuple[np.ndarray, int, int, Blocks | None]:
    """Rows in an index, a global batch that four ranks can share, a seed, and maybe blocks."""
    size = draw(st.integers(1, 200))
    rows = np.sort(np.random.default_rng(size).choice(2 * size, size, replace=False))
    shards = np.arange(2 * size) // draw(st.integers(1, 60))
    blocks = draw(st.none() | st.integers(1, 5).map(lambda at_once: Blocks(shards, at_once)))
    return rows, 4 * draw(st.integers(1, 12)), draw(st.integers(0, 5)), blocks


def places(order: BatchOrder) -> list[list[Place]]:
    return list(order)


@settings(max_examples=60, deadline=None)
@given(corpora(), st.integers(0, 8), st.data())
def test_each_row_comes_once_an_epoch_for_any_ranks_and_from_any_step(corpus, epochs: int, data: st.DataObject) -> None:  # type: ignore[no-untyped-def]
    rows, batch, seed, blocks = corpus
    whole = BatchOrder(rows, batch, 0, 1, seed, 0, 10**9, blocks)
    steps = whole.steps_per_epoch * (1 + epochs % 3)
    alone = places(BatchOrder(rows, batch, 0, 1, seed, 0, steps, blocks))
    for epoch in range(1 + epochs % 3):
        own = [place for step in alone[epoch * whole.steps_per_epoch :][: whole.steps_per_epoch] for place in step]
        assert {number for number, _ in own} == {epoch} and {row for _, row in own} <= set(rows.tolist())
        counts = Counter(row for _, row in own)
        if len(rows) >= batch:  # all but what is less than a batch, once
            assert len(own) == len(rows) // batch * batch and set(counts.values()) == {1}
        else:  # a corpus below a batch repeats within it, evenly
            assert len(own) == batch and max(counts.values()) - min(counts.values()) <= 1 and len(counts) == len(rows)
    start = data.draw(st.integers(0, steps))
    for world_size in RANKS:
        parts = [places(BatchOrder(rows, batch, r, world_size, seed, start, steps, blocks)) for r in range(world_size)]
        assert [sum(step, []) for step in zip(*parts, strict=True)] == alone[start:]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 6), st.integers(0, 3))
def test_blocks_read_few_shards_at_a_time(size: int, count: int, at_once: int, seed: int) -> None:
    shards = np.repeat(np.arange(count), size)
    order = Blocks(shards, at_once).order(np.arange(len(shards)), np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(len(shards)))
    for first in range(0, len(order), size * at_once):
        block = shards[order[first : first + size * at_once]]
        assert len(set(block.tolist())) == min(at_once, count - first // size)


def test_blocks_and_shards_differ_from_epoch_to_epoch() -> None:
    shards = np.repeat(np.arange(6), 20)
    order = BatchOrder(np.arange(120), 40, 0, 1, 0, 0, 6, Blocks(shards, 2))
    epochs = [[row for step in list(order)[e : e + 3] for _, row in step] for e in (0, 3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) and epochs[0] != epochs[1]
    assert [set(shards[epoch[:40]]) for epoch in epochs] != [{0, 1}, {0, 1}]


@pytest.mark.slow
def test_batches_are_the_same_at_one_two_and_four_workers_and_from_any_step(index_of) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    samples = TrainingSet(index_of("dreamlip"), 32, (0.5, 1.0), Sampling(), seed=3)

    def batches(workers: int, start: int) -> list[bytes]:
        order = BatchOrder(np.arange(len(samples.index)), 16, 1, 2, 3, start, 14)
        loader = DataLoader(samples, batch_sampler=order, collate_fn=collate, num_workers=workers)
        return [b.images.numpy().tobytes() + b.tokens.numpy().tobytes() + b.rows.numpy().tobytes() for b in loader]

    alone = batches(0, 0)
    assert len(set(alone)) == 14
    for workers, start in ((1, 0), (2, 0), (4, 0), (2, 5), (4, 9)):
        assert batches(workers, start) == alone[start:]


def _marked(samples: list[tuple[Tensor, Tensor, int]]) -> tuple[Batch, bool]:
    """A batch, and whether it was made where another process can read it, without a copy into such memory."""
    batch = collate(samples)
    return batch, batch.images.is_shared() and batch.tokens.is_shared()


def test_a_loader_process_makes_a_batch_in_memory_that_is_shared(index_of) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    samples = TrainingSet(index_of("dreamlip"), 32, (0.5, 1.0), Sampling(), seed=3)
    order = [[(0, place) for place in range(4)]]
    loaders = [DataLoader(samples, batch_sampler=order, collate_fn=_marked, num_workers=workers) for workers in (0, 1)]
    (here, is_here_shared), (there, is_there_shared) = (next(iter(loader)) for loader in loaders)
    assert not is_here_shared and is_there_shared
    assert here.images.equal(there.images) and here.tokens.equal(there.tokens) and here.rows.equal(there.rows)
    assert here.images.stride() == there.images.stride() == (3 * 32 * 32, 32 * 32, 32, 1)


def test_damaged_pictures_stop_or_are_replaced_and_counted(index_of, made, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    index = index_of("spacy")
    for path in sorted((made[0] / "images").rglob("*.tar")):
        target = tmp_path / path.relative_to(made[0] / "images")
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    damaged = TrainingIndex(made[0] / "spacy", tmp_path)
    row = 5
    record = damaged._images[row]
    corpus, name = damaged._shards[int(record["shard"])]
    with (tmp_path / corpus / f"{name}.tar").open("r+b") as file:
        file.seek(int(record["offset"]))
        file.write(bytes(int(record["size"])))
    with pytest.raises(DataError, match=rf"row {damaged.row_ids[row]} of {corpus}, in .*{name}\.tar: "):
        TrainingSet(damaged, 32, None, Sampling(), seed=0)[(0, row)]
    allowed = np.arange(20, 30)
    whole = TrainingSet(index, 32, None, Sampling(), seed=0)
    lenient = TrainingSet(damaged, 32, None, Sampling(), seed=0, substitutes=allowed)
    order = [[(epoch, place) for place in range(10)] for epoch in range(4)]
    seen = []
    for workers in (0, 2):
        loader = DataLoader(lenient, batch_sampler=order, collate_fn=collate, num_workers=workers)
        seen.append([batch.rows.tolist() for batch in loader])
    assert seen[0] == seen[1]
    assert lenient.replaced.value == 2 * len(order)
    for epoch, rows in enumerate(seen[0]):
        assert rows[:5] + rows[6:] == [0, 1, 2, 3, 4, 6, 7, 8, 9] and rows[5] in allowed
        images, tokens, _ = lenient[(epoch, row)]
        expected = whole[(epoch, rows[5])]
        assert images.equal(expected[0]) and tokens.equal(expected[1])
    assert len({rows[5] for rows in seen[0]}) > 1


_READS = """
import sys
from pathlib import Path
import numpy as np
from caft.data.training.reader import TrainingIndex

index = TrainingIndex(Path(sys.argv[1]), Path(sys.argv[1]))
rng = np.random.default_rng(0)

def held():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

before = held()
for i in rng.integers(len(index), size=2000).tolist():
    index.image_bytes(i)
    index.sub_caption_ids(i, [(0, 0)])
print(len(index), before, held() - before)
"""


def _sparse(path: Path, dtype: np.dtype, count: int) -> None:  # type: ignore[type-arg]
    """A large array of zeros that takes no room on the disk."""
    np.lib.format.open_memmap(path, "w+", dtype, (count,))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_a_reader_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    held = {}
    for images in (10_000, 27_000_000):
        folder = tmp_path / str(images)
        (folder / "one").mkdir(parents=True)
        (folder / "one/00000.tar").write_bytes(bytes(1024))
        (folder / "index.json").write_text(
            '{"version": 1, "splitter": "spacy", "corpora": [], "shards": [["one", "00000"]]}'
        )
        _sparse(folder / "images.npy", IMAGE, images)
        _sparse(folder / "captions.npy", np.dtype(np.int64), images * 7 + 1)
        for name, dtype in (
            ("token_ends", np.int64),
            ("tokens", np.uint16),
            ("text_ends", np.int64),
            ("text", np.uint8),
        ):
            _sparse(folder / f"{name}.npy", np.dtype(dtype), images)
        done = subprocess.run(
            [sys.executable, "-c", _READS, str(folder)], capture_output=True, text=True, check=True, cwd=PROJECT
        )
        count, before, added = map(int, done.stdout.split())
        assert count == images
        held[images] = (before, added)
    few, many = held.values()
    assert abs(many[0] - few[0]) < 8_000 and many[1] < few[1] + 8_000, held  # in KiB
