"""Index, reader and batches on a small corpus written as the stages write it."""

import io
import math
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from caft.captions.sentences import SPLITTERS, Splitter, split
from caft.captions.tokenizer import encode
from caft.data.crawl.repeats import dropped_above, repeated_pictures
from caft.data.tables.schema import CAPTIONS, FIELDS
from caft.data.tables.sentence_table import write_sentences
from caft.data.training.batch import BatchOrder, Sampling, TrainingSet, collate, sample_sub_captions
from caft.data.training.index import Repeats, build_index, read_summary
from caft.data.training.reader import TrainingIndex
from caft.data.training.subsets import split_validation
from caft.errors import DataError

# Whatever is hard to join: closing quotes, curly ones, mojibake, entities, tags, no space, other scripts.
PIECES = [
    "A red cat sits.",
    "caf&Atilde;&copy; is open.",  # repaired to one letter, but not beside a tag
    "An <i> tag.",
    'It says "stop."',
    "“Curly.”",
    "Is it café?",
    "(In brackets.)",
    "cafÃ© broken.",
    "Tom &amp; Jerry.",
    "a &lt;b&gt; c.",
    "Half an entity &am",
    "p; goes on.",
    "3.5 kg.",
    "End!No space.",
    "猫がいる。",
    "It’s 12,000 m…",
    "wait...",
    "x_y-z/w.",
    "</s>",
    "\n",
    "<end_of_text>.",
    "The dog's toy,",
    "No. 38 stops.",
    "😀 smiles.",
    "trailing quote'",
]
BIG_TABLE = 40


def _captions(rng: np.random.Generator) -> list[str | None]:
    joiner = ["", " "][int(rng.integers(5)) > 0]
    return [joiner.join(rng.choice(PIECES, size=int(rng.integers(0, 12)))) or None for _ in FIELDS]


def _corpus(root: Path, name: str, shards: list[list[list[str | None]]], first_row: int = 0) -> None:
    """Tars, caption tables and, through the stage's own function, sentence tables."""
    row_id = first_row
    for number, rows in enumerate(shards):
        (root / "images" / name).mkdir(parents=True, exist_ok=True)
        (root / "captions" / name).mkdir(parents=True, exist_ok=True)
        (root / "sentences" / name).mkdir(parents=True, exist_ok=True)
        tar_path = root / "images" / name / f"{number:05d}.tar"
        table = []
        with tarfile.open(tar_path, "w") as tar:
            for place, captions in enumerate(rows):
                picture = io.BytesIO()
                Image.new("RGB", (64, 64), (row_id % 256, place, number)).save(picture, "PNG")
                entry = tarfile.TarInfo(f"{number:05d}{place:04d}.jpg")
                entry.size = len(picture.getvalue())
                tar.addfile(entry, io.BytesIO(picture.getvalue()))
                table.append([entry.name[:-4], row_id, 0, entry.size, 64, 64, "", *captions])
                row_id += 1
        with tarfile.open(tar_path) as tar:
            for row, member in zip(table, tar, strict=True):
                row[2] = member.offset_data
        columns = [list(column) for column in zip(*table, strict=True)]
        captions_path = root / "captions" / name / f"{number:05d}.parquet"
        arrays = [pa.array(column, field.type) for column, field in zip(columns, CAPTIONS, strict=True)]
        pq.write_table(pa.table(arrays, schema=CAPTIONS), captions_path)
        counts = write_sentences(captions_path, root / "sentences" / name / f"{number:05d}.parquet")
        assert counts["rows"] == len(rows)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[str | None]]]:
    """Two corpora, the first of two shards; the first shard's second image has no caption. Captions in index order."""
    root = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    shards = [[_captions(rng) for _ in range(BIG_TABLE)] for _ in range(3)]
    shards[0][1] = [None] * len(FIELDS)
    _corpus(root, "one", shards[:2])
    _corpus(root, "two", shards[2:], first_row=1000)
    for splitter in SPLITTERS:
        corpora = [{"name": "one", "fingerprint": "a"}, {"name": "two", "fingerprint": "b"}]
        build_index(root / splitter, corpora, splitter, root / "captions", root / "sentences")
    return root, [captions for shard in shards for captions in shard]


@pytest.fixture(scope="module")
def index_of(made: tuple[Path, list[list[str | None]]]) -> Callable[[Splitter], TrainingIndex]:
    return lambda splitter: TrainingIndex(made[0] / splitter, made[0] / "images")


def _kept(captions: list[list[str | None]], splitter: Splitter) -> list[list[str | None]]:
    return [row for row in captions if any(split(text or "", splitter) for text in row)]


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_sentences_and_rows_come_back(made, index_of, splitter: Splitter) -> None:  # type: ignore[no-untyped-def]
    index, kept = index_of(splitter), _kept(made[1], splitter)
    assert len(index) == len(kept) < len(made[1])
    summary = read_summary(made[0] / splitter)
    assert [(c["name"], c["fingerprint"]) for c in summary["corpora"]] == [("one", "a"), ("two", "b")]
    assert summary["corpora"][1]["first"] == summary["corpora"][0]["count"]
    assert summary["shards"] == [["one", "00000"], ["one", "00001"], ["two", "00000"]]
    for i, row in enumerate(kept):
        sentences = [split(text or "", splitter) for text in row]
        assert index.num_sentences(i) == [len(found) for found in sentences]
        for field, found in enumerate(sentences):
            assert [index.chunk_text(i, field, [n]) for n in range(len(found))] == found
        picture = Image.open(io.BytesIO(index.image_bytes(i)))
        assert picture.getpixel((0, 0))[0] == index.row_ids[i] % 256


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_ids_of_ten_thousand_random_sub_captions_are_those_of_their_text(index_of, splitter: Splitter) -> None:  # type: ignore[no-untyped-def]
    index, rng = index_of(splitter), np.random.default_rng(1)
    checked = joined = 0
    while checked < 10_000:
        i = int(rng.integers(len(index)))
        for pairs in sample_sub_captions(index.num_sentences(i), rng, Sampling()):
            assert index.sub_caption_ids(i, pairs) == encode(index.sub_caption_text(i, pairs)), (i, pairs)
            checked += 1
            joined += len(pairs) > 1
    assert joined > 1000


def test_a_chunk_reads_as_the_splitters_join(index_of) -> None:  # type: ignore[no-untyped-def]
    for splitter, joiner in (("spacy", " "), ("dreamlip", ". ")):
        index = index_of(splitter)
        i, field = next((i, f) for i in range(len(index)) for f, n in enumerate(index.num_sentences(i)) if n > 2)
        parts = [index.chunk_text(i, field, [n]) for n in (0, 1, 2)]
        assert index.chunk_text(i, field, [0, 1, 2]) == joiner.join(parts)


def test_sub_captions_follow_the_rules_of_sampling() -> None:
    rng = np.random.default_rng(0)
    longs = Counter()
    for _ in range(600):
        drawn = sample_sub_captions([1, 1, 7, 1, 2, 1, 5], rng, Sampling())  # the fifth field has too few
        assert len(drawn) == 8
        chosen = drawn[0][0][0]
        longs[chosen] += 1
        first = [pair for chunk in drawn[:4] for pair in chunk]
        assert first == [(chosen, n) for n in range(7 if chosen == 2 else 5)]
        for extra in drawn[4:]:
            assert 1 <= len(extra) <= 3 and len(set(extra)) == len(extra)
            assert all(field != chosen for field, _ in extra)
    assert longs.keys() == {2, 6} and 230 < longs[2] < 370


def test_without_a_long_caption_eight_sentences_of_all_stand_for_it() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        drawn = sample_sub_captions([5, 2, 2, 5, 0, 0, 2], rng, Sampling())
        first = [pair for chunk in drawn[:4] for pair in chunk]
        assert len(first) == len(set(first)) == 8
    tiny = sample_sub_captions([1, 0, 0, 0, 0, 0, 0], rng, Sampling())
    assert {pair for chunk in tiny for pair in chunk} == {(0, 0)} and len(tiny) == 8
    only_long = sample_sub_captions([0, 0, 4, 0, 0, 0, 0], rng, Sampling())
    assert {field for chunk in only_long for field, _ in chunk} == {2} and len(only_long) == 8
    with pytest.raises(ValueError, match="without a sentence"):
        sample_sub_captions([0] * 7, rng, Sampling())


def test_every_row_comes_once_in_an_epoch_but_for_the_rest_of_a_batch() -> None:
    rows = np.arange(100, 203)
    steps = [row for batch in BatchOrder(rows, 10, 0, 1, 7, 0, 10) for row in batch]
    assert {epoch for epoch, _ in steps} == {0}
    assert len({row for _, row in steps}) == len(steps) == 100
    assert {row for _, row in steps} <= set(rows.tolist())
    second = [row for batch in BatchOrder(rows, 10, 0, 1, 7, 10, 20) for row in batch]
    assert {epoch for epoch, _ in second} == {1} and [r for _, r in second] != [r for _, r in steps]


@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_ranks_share_the_batches_of_one_process_and_resume_anywhere(world_size: int) -> None:
    rows = np.arange(40)
    whole = list(BatchOrder(rows, 12, 0, 1, 3, 0, 9))
    ranks = [list(BatchOrder(rows, 12, rank, world_size, 3, 0, 9)) for rank in range(world_size)]
    assert [sum(parts, []) for parts in zip(*ranks, strict=True)] == whole
    for start in range(9):
        assert list(BatchOrder(rows, 12, 0, 1, 3, start, 9)) == whole[start:]


@pytest.mark.parametrize("crop_scale", [None, (0.9, 1.0)])
def test_any_number_of_workers_gives_the_same_batches(index_of, crop_scale) -> None:  # type: ignore[no-untyped-def]
    samples = TrainingSet(index_of("spacy"), 32, crop_scale, Sampling(), seed=5)
    order = BatchOrder(np.arange(len(samples.index)), 16, 0, 1, 5, 0, 8)
    batches = [
        list(DataLoader(samples, batch_sampler=order, collate_fn=collate, num_workers=workers)) for workers in (0, 2)
    ]
    assert len(batches[0]) == 8
    assert batches[0][0].images.shape == (16, 3, 32, 32) and batches[0][0].images.dtype == torch.uint8
    assert batches[0][0].tokens.shape == (16, 8, 77) and batches[0][0].tokens.dtype == torch.int64
    for alone, shared in zip(*batches, strict=True):
        assert all(getattr(alone, name).equal(getattr(shared, name)) for name in ("images", "tokens", "rows"))


def test_held_out_rows_do_not_depend_on_position() -> None:
    row_ids = np.arange(1000) * 7
    training, held_out = split_validation(row_ids, 100)
    assert len(held_out) == 100 and sorted([*training, *held_out]) == list(range(1000))
    shuffled = np.random.default_rng(0).permutation(row_ids)
    assert set(shuffled[split_validation(shuffled, 100)[1]]) == set(row_ids[held_out])
    assert 0 < np.mean(held_out < 500) < 1


def test_a_repeated_picture_is_held_out_with_all_of_its_rows_or_not_at_all() -> None:
    # The same 2,000 pictures in two corpora, in another order.
    order = np.random.default_rng(1).permutation(2000)
    row_ids = np.concatenate([np.arange(2000), np.arange(2000)])
    pictures = np.concatenate([np.arange(2000), order])
    firsts = np.concatenate([np.arange(2000), order])
    training, held_out = split_validation(row_ids, 200, np.stack([np.arange(4000), firsts], axis=1))
    assert len(held_out) == 200 and sorted([*training, *held_out]) == list(range(4000))
    assert not set(pictures[training]) & set(pictures[held_out])
    alone = split_validation(row_ids, 200)
    assert set(pictures[alone[0]]) & set(pictures[alone[1]])  # by row alone, most are trained on as well


def test_a_picture_of_more_rows_than_are_held_out_is_trained_on_and_others_stay_as_they_were() -> None:
    row_ids = np.arange(1000)
    of_one = np.sort(np.random.default_rng(2).choice(1000, 300, replace=False))
    training, held_out = split_validation(row_ids, 100, np.stack([of_one, np.full(300, of_one[0])], axis=1))
    assert len(held_out) == 100 and set(of_one) <= set(training)
    others = np.setdiff1d(split_validation(row_ids, 140)[1], of_one)
    assert set(others) <= set(held_out) or set(held_out) <= set(others)
    same = split_validation(row_ids, 100, np.zeros((0, 2), np.int64))
    assert all(np.array_equal(a, b) for a, b in zip(same, split_validation(row_ids, 100), strict=True))


@pytest.mark.parametrize(("above", "kept"), [(math.inf, 12), (3, 8), (1, 6)])
def test_pictures_under_many_addresses_are_kept_or_all_of_their_images_dropped_and_counted(
    tmp_path: Path, above: float, kept: int
) -> None:
    rng = np.random.default_rng(3)
    _corpus(tmp_path, "one", [[_captions(rng) for _ in range(4)] for _ in range(2)])
    _corpus(tmp_path, "two", [[_captions(rng) for _ in range(4)]], first_row=100)
    # Picture x: rows 0, 2, 5 and 101. Picture y: rows 1 and 102. All others are there once.
    same = {0: "x", 2: "x", 5: "x", 101: "x", 1: "y", 102: "y"}
    tables = sorted((tmp_path / "captions").glob("*/0*.parquet"))
    rows: list[int] = []
    for path in tables:
        table = pq.read_table(path)
        ids = table["row_id"].to_pylist()
        rows += ids
        digests = [same.get(row, f"alone {row}") for row in ids]
        place = table.column_names.index("download_sha256")
        pq.write_table(table.set_column(place, "download_sha256", pa.array(digests)), path)
    copies = repeated_pictures(tables, 1, tmp_path / "work", 1)
    assert copies == {"x": 4, "y": 2}
    corpora = [{"name": name, "fingerprint": ""} for name in ("one", "two")]
    folders = tmp_path / "captions", tmp_path / "sentences"
    build_index(tmp_path / "index", corpora, "spacy", *folders, Repeats(copies, above))
    index = TrainingIndex(tmp_path / "index", tmp_path)
    expected = [row for row in rows if copies.get(same.get(row, ""), 1) <= above]
    assert index.row_ids.tolist() == expected and len(expected) == kept
    dropped = {entry["name"]: entry.get("repeated_images", 0) for entry in index.corpora}
    assert dropped == {
        name: sum(row not in expected for row in rows if (row >= 100) == (name == "two")) for name in dropped
    }
    groups = {
        frozenset(i for i, row in enumerate(expected) if same.get(row) == picture) for picture in set(same.values())
    } - {frozenset()}
    assert {tuple(pair) for pair in index.repeats.tolist()} == {(i, min(group)) for group in groups for i in group}


def test_the_rule_for_repeated_pictures_in_words() -> None:
    assert (dropped_above("keep"), dropped_above("drop_above 12")) == (math.inf, 12)


def test_damaged_data_is_named(made, index_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "one").mkdir()
    with pytest.raises(DataError, match=r"00000\.tar: not found; run `dvc repro"):
        TrainingIndex(made[0] / "spacy", tmp_path).image_bytes(0)
    (tmp_path / "one" / "00000.tar").write_bytes(b"short")
    with pytest.raises(DataError, match="not the one that was indexed"):
        TrainingIndex(made[0] / "spacy", tmp_path).image_bytes(0)
    with pytest.raises(DataError, match="no whole index"):
        TrainingIndex(tmp_path, tmp_path)
    table = made[0] / "sentences" / "two" / "00000.parquet"
    with pytest.raises(DataError, match="its rows are not those of"):
        (tmp_path / "sentences" / "one").mkdir(parents=True)
        (tmp_path / "sentences" / "one" / "00000.parquet").write_bytes(table.read_bytes())
        build_index(tmp_path / "x", [{"name": "one"}], "spacy", made[0] / "captions", tmp_path / "sentences")
