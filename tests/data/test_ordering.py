"""Positions in the index are those of the corpora's lists, in however many shards the images lie: one round or many."""

import argparse
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from caft.data.crawl.manifest import Manifest, Shard, rows_fingerprint
from caft.data.crawl.repeats import repeated_pictures
from caft.data.tables.recaption import CaptionTask, write_captions
from caft.data.tables.schema import FIELDS
from caft.data.tables.sentence_table import write_sentences
from caft.data.training import leakage
from caft.data.training.index import Repeats, build_index
from caft.data.training.ordering import put_in_order
from caft.data.training.reader import TrainingIndex
from caft.data.training.subsets import describe, nested, split_validation
from caft.errors import DataError, SchemaError
from caft.params import load_params
from caft.train.references import draw_references
from pipelines import index as index_stage
from pipelines import select as select_stage

SENTENCES = [
    "A red cat sits.",
    "Two dogs run.",
    "“Why?”",
    "猫がいる。",
    "The café is open,",
    "No. 38 stops.",
    "A tree.",
]
LOST, SILENT = (3, 17), 7  # rows without a picture, and one without a sentence
# The same picture in several rows, once in both corpora.
COPIES = {2: 1, 9: 1, 12: 10, 105: 1}
ROWS = {"one": [row for row in range(14)] + [17], "two": list(range(100, 108))}
Layout = dict[str, list[list[int]]]


def url(row: int) -> str:
    return f"https://one.example/{min(row, 5) if row in (5, 11) else row}.jpg"  # rows 5 and 11 have one address


def picture(row: int) -> bytes:
    rng, file = np.random.default_rng(COPIES.get(row, row)), io.BytesIO()
    blocks = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    blocks.resize((48, 48), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def captions(row: int) -> list[str | None]:
    rng = np.random.default_rng(1000 + row)
    drawn = [" ".join(rng.choice(SENTENCES, size=rng.integers(0, 4))) or None for _ in FIELDS]
    return [None] * len(FIELDS) if row == SILENT else [f"Row {row}.", *drawn[1:]]


def listed(corpus: str) -> list[int]:
    """Rows in the order of a list, by the definition."""
    return sorted(ROWS[corpus], key=lambda row: (hashlib.md5(url(row).encode()).hexdigest(), row))


def one_round(corpus: str, of_each: int) -> list[list[int]]:
    """The shards of a folder that was filled in one round."""
    return [listed(corpus)[first : first + of_each] for first in range(0, len(ROWS[corpus]), of_each)]


def write_shard(root: Path, corpus: str, name: str, rows: Sequence[int]) -> Shard:
    """A tar, and through the stages' own functions its tables of captions and sentences."""
    tar, found = root / f"images/{corpus}/{name}.tar", [row for row in rows if row not in LOST]
    with tarfile.open(tar, "w") as out:
        for place, row in enumerate(found):
            for ending, content in (("jpg", picture(row)), ("json", b"{}")):
                member = tarfile.TarInfo(f"{name}{place:04d}.{ending}")
                member.size = len(content)
                out.addfile(member, io.BytesIO(content))
    sums = [hashlib.sha256(picture(row)).hexdigest() for row in found]
    columns: dict[str, Any] = {
        "shard": [name] * len(found),
        "key": [f"{name}{place:04d}" for place in range(len(found))],
        "row_id": found,
        "width": [48] * len(found),
        "height": [48] * len(found),
        "download_sha256": sums,
        **{field: pa.array([captions(row)[n] for row in found], pa.string()) for n, field in enumerate(FIELDS)},
    }
    gathered, table = root / "gathered.parquet", root / f"data/captions/{corpus}/{name}.parquet"
    pq.write_table(pa.table(columns), gathered)
    write_captions(CaptionTask(tar, gathered, table))
    write_sentences(table, root / f"data/sentences/{corpus}/{name}.parquet")
    content, lost = tar.read_bytes(), {"http_404": len(rows) - len(found)} if len(found) < len(rows) else {}
    pairs = rows_fingerprint(zip(found, sums, strict=True))
    return Shard(name, len(rows), len(found), lost, len(content), hashlib.sha256(content).hexdigest(), pairs)


def write_corpora(root: Path, layout: Layout) -> Path:
    """A checkout with all that `select` and `index` read, and the images."""
    for corpus, shards in layout.items():
        for folder in ("images", "data/captions", "data/sentences", "data/images", "data/urls"):
            (root / folder / ("" if folder in ("data/images", "data/urls") else corpus)).mkdir(
                parents=True, exist_ok=True
            )
        found = tuple(write_shard(root, corpus, f"{number:05d}", rows) for number, rows in enumerate(shards))
        (root / f"data/images/{corpus}.json").write_text(json.dumps(Manifest(corpus, "list", found).as_json()))
        tars = {"shards": {shard.name: shard.sha256 for shard in found}}
        (root / f"data/captions/{corpus}.json").write_text(json.dumps(tars))
        counts = {"rows_in": len(ROWS[corpus]) + 2, "dropped": {"no_url": 2}}
        (root / f"data/urls/{corpus}.json").write_text(json.dumps(counts))
        rows = listed(corpus)
        causes = pa.array(["http_404" if row in LOST else None for row in rows], pa.string())
        columns = {"row_id": pa.array(rows, pa.int64()), "url": pa.array(map(url, rows)), "cause": causes}
        pq.write_table(pa.table(columns), root / f"data/images/{corpus}.parquet", row_group_size=4)
    return root


def build(root: Path, above: float = float("inf")) -> TrainingIndex:
    tables = sorted((root / "data/captions").glob("*/0*.parquet"))
    repeats = Repeats(repeated_pictures(tables, 1, root / "work", 1), above)
    folders = root / "data/captions", root / "data/sentences"
    shutil.rmtree(root / "index", ignore_errors=True)
    build_index(root / "index", [{"name": name} for name in ROWS], "spacy", *folders, repeats)
    put_in_order(root / "index", root / "data/images")
    return TrainingIndex(root / "index", root / "images")


def arrays(index: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in index.glob("*.npy")}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Filled in one round, three shards and one."""
    return write_corpora(tmp_path_factory.mktemp("fresh"), {"one": one_round("one", 6), "two": one_round("two", 50)})


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Each corpus in one to four shards, none empty, with its rows anywhere."""
    found: Layout = {}
    for corpus, rows in ROWS.items():
        order = draw(st.permutations(rows))
        cuts = sorted(draw(st.sets(st.integers(1, len(rows) - 1), max_size=3)))
        found[corpus] = [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    return found


@pytest.mark.parametrize("above", [float("inf"), 2])
def test_a_folder_of_one_round_is_in_order_already(fresh: Path, above: float) -> None:
    index = build(fresh, above)
    dropped = {row for row in (1, 2, 9, 105) if above == 2}  # four of one picture
    kept = [row for name in ROWS for row in listed(name) if row not in {*LOST, SILENT, *dropped}]
    assert index.row_ids.tolist() == kept and (np.diff(index.shards) >= 0).all()
    before = arrays(fresh / "index")
    assert put_in_order(fresh / "index", fresh / "data/images") is False
    assert arrays(fresh / "index") == before


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(layouts(), st.sampled_from([float("inf"), 2]))
def test_any_layout_gives_what_one_round_gives_position_by_position(
    fresh: Path, tmp_path_factory: pytest.TempPathFactory, layout: Layout, above: float
) -> None:
    expected = build(fresh, above)
    root = write_corpora(tmp_path_factory.mktemp("layout"), layout)
    index = build(root, above)
    assert_same(index, expected, root / "index", fresh / "index")
    shutil.rmtree(root)


def assert_same(index: TrainingIndex, expected: TrainingIndex, folder: Path, expected_folder: Path) -> None:
    """Equal to what a reader sees, and to all that training draws by positions; and right, by the rows themselves."""
    assert index.row_ids.tolist() == expected.row_ids.tolist() and len(index) == len(expected) > 0
    assert [(c["first"], c["count"]) for c in index.corpora] == [(c["first"], c["count"]) for c in expected.corpora]
    for i, row in enumerate(index.row_ids.tolist()):
        assert index.image_bytes(i) == expected.image_bytes(i) == picture(row)
        counts = index.num_sentences(i)
        assert counts == expected.num_sentences(i) and index.chunk_text(i, 0, [0]) == f"Row {row}."
        pairs = [(field, number) for field, count in enumerate(counts) for number in range(count)]
        assert index.sub_caption_text(i, pairs) == expected.sub_caption_text(i, pairs)
        assert index.sub_caption_ids(i, pairs) == expected.sub_caption_ids(i, pairs)
        assert all(index.sub_caption_ids(i, [pair]) == expected.sub_caption_ids(i, [pair]) for pair in pairs)
    sums = [hashlib.sha256(index.image_bytes(i)).hexdigest() for i in range(len(index))]
    again = [[i, sums.index(one)] for i, one in enumerate(sums) if sums.count(one) > 1]
    assert index.repeats.tolist() == expected.repeats.tolist() == again
    split, other = (split_validation(one.row_ids, 6, one.repeats) for one in (index, expected))
    assert [part.tolist() for part in split] == [part.tolist() for part in other]
    assert nested(index.row_ids, split[0], 0.5).tolist() == nested(expected.row_ids, other[0], 0.5).tolist()
    subsets = [describe(one.row_ids, 6, 0.5, one.repeats) for one in (index, expected)]
    assert subsets[0] == subsets[1]
    assert draw_references(folder) == draw_references(expected_folder)
    mine, others = arrays(folder), arrays(expected_folder)
    assert {name for name in mine | others if mine.get(name) != others.get(name)} <= {"images.npy"}


THREE_ROUNDS: Layout = {
    # As after an edit: the first round without rows that were added or tried again, each of which lies in a later shard.
    "one": [[r for r in listed("one") if r not in (0, 4, 11, 9)], [4, 11], [9, 0]],
    "two": [[r for r in listed("two") if r != 105], [105]],
}


def test_three_rounds_give_what_one_round_gives(fresh: Path, tmp_path: Path) -> None:
    root = write_corpora(tmp_path, THREE_ROUNDS)
    index, expected = build(root), build(fresh)
    assert (np.diff(index.shards) < 0).any()  # so what lies apart was put together
    assert_same(index, expected, root / "index", fresh / "index")


def test_more_images_than_are_copied_at_a_time(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caft.data.training.ordering._AT_ONCE", 3)
    root = write_corpora(tmp_path, {"one": [listed("one")[8:], listed("one")[:8]], "two": [listed("two")]})
    assert_same(build(root), build(fresh), root / "index", fresh / "index")


def test_the_stages_give_the_same_data_and_counts_for_both(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlay = tmp_path / "two.yaml"
    entry = "{kind: custom, table: own.csv, packed: null, expected_images: 9}"
    overlay.write_text(f"{{corpora: [one, two], corpus: {{one: {entry}, two: {entry}}}}}")
    params = load_params("params.yaml", [overlay])
    monkeypatch.setenv("CAFT_STORAGE", str(tmp_path / "storage"))
    found = []
    for root in (fresh, write_corpora(tmp_path / "later", THREE_ROUNDS)):
        monkeypatch.chdir(root)
        select_stage.main(params, argparse.Namespace())
        index_stage.main(params, argparse.Namespace())
        counts = json.loads(Path("metrics/data.json").read_text())
        assert all(entry.pop("fingerprint") for entry in counts.values())  # of the files, so it tells the two apart
        found.append(
            (counts, {name: data for name, data in arrays(root / "data/index").items() if name != "images.npy"})
        )
    assert found[0] == found[1]
    assert found[0][0] == {
        "one": {"rows_in": 17, "rows_out": 12, "dropped": {"http_404": 2, "no_sentence": 1, "no_url": 2}},
        "two": {"rows_in": 10, "rows_out": 8, "dropped": {"no_url": 2}},
    }


@pytest.mark.slow
def test_hashes_are_of_the_positions_and_of_whole_tars_at_a_time(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray: None
) -> None:
    monkeypatch.setattr(leakage, "_IMAGES_AT_ONCE", 5)
    root = write_corpora(tmp_path, THREE_ROUNDS)
    index, kept = build(root), tmp_path / "kept"
    hashes = leakage.hash_index(root / "index", root / "images", kept)
    assert hashes.tolist() == [leakage.perceptual_hash(index.picture(i)) for i in range(len(index))]
    build(fresh)
    assert hashes.tolist() == leakage.hash_index(fresh / "index", fresh / "images", tmp_path / "other").tolist()
    # The shards begin at 0, 8, 10, 12 and 19; two of them begin within the same five.
    assert sorted(int(path.stem) for path in kept.glob("0*.npy")) == [0, 8, 10, 19]


def test_kept_hashes_stay_right_when_positions_change(tmp_path: Path) -> None:
    """They are named by index.json, which does not tell of the order."""
    root = write_corpora(tmp_path, THREE_ROUNDS)
    build(root)
    shutil.copytree(root / "index", root / "ordered")
    build_index(root / "stored", [{"name": n} for n in ROWS], "spacy", root / "data/captions", root / "data/sentences")
    assert arrays(root / "stored")["images.npy"] != arrays(root / "ordered")["images.npy"]
    for folder in ("stored", "ordered"):
        index = TrainingIndex(root / folder, root / "images")
        hashes = leakage.hash_index(root / folder, root / "images", tmp_path / "kept")
        assert hashes.tolist() == [leakage.perceptual_hash(index.picture(i)) for i in range(len(index))]


def test_lists_of_other_fetches_are_refused(tmp_path: Path) -> None:
    root = write_corpora(tmp_path, THREE_ROUNDS)
    path = root / "data/images/two.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter(pa.array([row not in (103, 106) for row in table["row_id"].to_pylist()])), path)
    with pytest.raises(DataError, match=r"two\.parquet: 2 of 8 images .* the first is row 103; .*--force fetch@two`"):
        build(root)
    pq.write_table(table.drop_columns("cause"), path)
    with pytest.raises(SchemaError, match="column cause is missing"):
        build(root)
    path.unlink()
    with pytest.raises(DataError, match=r"two\.parquet: not found; run the stage"):
        build(root)
