"""Sentences that an audit has flagged stay out of the index, are counted, and change the name of a run."""

import argparse
import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caft.captions.sentences import spans
from caft.data.tables.fields import FIELDS
from caft.data.tables.schema import SENTENCES
from caft.data.tables.support_table import SUPPORT, LeftOut, write_supported
from caft.data.training.index import build_index
from caft.data.training.reader import TrainingIndex
from caft.errors import DataError
from caft.eval.analysis.corpus_support import Shard, choose_others, flag, score_shard
from caft.model.support import least_support
from caft.params import load_params
from caft.train.inputs import Inputs, files_of
from pipelines import audit_compare
from pipelines import index as stage
from tests.data.test_index import _corpus

PROJECT = Path(__file__).parents[2]
TEXTS = ["A red cat sits. It sleeps.", "A dog runs on grass. A tree stands there. The sky is blue.", "A lamp."]


def row(place: int) -> list[str | None]:
    """Captions of an image: raw, long_ib, and of every fourth image nothing else."""
    captions: dict[str, str | None] = dict.fromkeys(FIELDS)
    captions["raw"] = TEXTS[2]
    captions["long_ib"] = TEXTS[place % 2] if place % 4 else None
    return [captions[field] for field in FIELDS]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audited")
    _corpus(folder, "one", [[row(place) for place in range(first, first + 12)] for first in (0, 12)])
    return folder


def shards_of(root: Path) -> list[Shard]:
    paths = sorted((root / "captions/one").glob("*.parquet"))
    return [Shard(p, root / "sentences/one" / p.name, root / "images/one" / f"{p.stem}.tar") for p in paths]


def table_of(root: Path, shard: int, flagged: set[tuple[int, str, int]]) -> Path:
    """A table of support of a shard with given flags, written without the code that is tested."""
    rows = []
    for place in range(12 * shard, 12 * shard + 12):
        for caption, text in zip(FIELDS, row(place), strict=True):
            for number, (start, end) in enumerate(spans(text or "", "spacy")):
                flags = {"flagged": (place, caption, number) in flagged, "logit": 0.0, "support": 1.0}
                said = {"number": number, "start": start, "end": end, "sentence": (text or "")[start:end]}
                rows.append({"row_id": place, "caption": caption, **said, **flags})
    path = root / "support/one" / f"{shard:05d}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=SUPPORT), path)
    return path


# Row 0 has one sentence and loses it; of row 1 a caption loses all three, of rows 2 and 14 one sentence of two goes.
FLAGS = {(0, "raw", 0), (1, "long_ib", 0), (1, "long_ib", 1), (1, "long_ib", 2), (2, "long_ib", 0), (14, "long_ib", 1)}


def build(root: Path, name: str, sentences: Path) -> TrainingIndex:
    build_index(root / name, [{"name": "one", "fingerprint": "a"}], "spacy", root / "captions", sentences)
    return TrainingIndex(root / name, root / "images")


def test_flagged_sentences_are_not_in_the_index_and_all_others_are(root: Path) -> None:
    left = LeftOut()
    for number, shard in enumerate(shards_of(root)):
        support = table_of(root, number, FLAGS)
        left += write_supported(shard.sentences, support, root / "supported/one" / shard.sentences.name, "spacy")
    assert left == LeftOut(sentences=6, captions=2, images=1)
    before, after = build(root, "all", root / "sentences"), build(root, "some", root / "supported")
    assert (len(before), len(after)) == (24, 23)
    assert after.row_ids.tolist() == [place for place in before.row_ids.tolist() if place != 0]
    for place, row_id in enumerate(after.row_ids.tolist()):
        for field, caption in enumerate(FIELDS):
            text = row(row_id)[field] or ""
            said = [text[a:b] for a, b in spans(text, "spacy")]
            expected = [s for number, s in enumerate(said) if (row_id, caption, number) not in FLAGS]
            found = [after.chunk_text(place, field, [n]) for n in range(after.num_sentences(place)[field])]
            assert found == expected
            assert [after.sub_caption_ids(place, [(field, n)]) for n in range(len(found))] == [
                before.sub_caption_ids(row_id, [(field, said.index(sentence))]) for sentence in expected
            ]


def test_the_other_splitters_sentences_stay_and_no_flag_changes_no_byte_of_an_index(root: Path) -> None:
    for number, shard in enumerate(shards_of(root)):
        support = table_of(root, number, FLAGS)
        target = root / "again/one" / shard.sentences.name
        write_supported(shard.sentences, support, target, "spacy")
        one, other = (pq.read_table(path) for path in (shard.sentences, target))
        assert other.schema.equals(one.schema) and other["dreamlip_ids"].equals(one["dreamlip_ids"])
        support = table_of(root, number, set())
        assert write_supported(shard.sentences, support, root / "same/one" / shard.sentences.name, "spacy") == LeftOut()
    build(root, "plain", root / "sentences")
    build(root, "unfiltered", root / "same")
    for path in sorted((root / "plain").iterdir()):
        assert (root / "unfiltered" / path.name).read_bytes() == path.read_bytes()


def test_the_name_of_a_run_changes_with_what_is_left_out(root: Path) -> None:
    for name, flags in (("first", FLAGS), ("second", FLAGS - {(2, "long_ib", 0)})):
        for number, shard in enumerate(shards_of(root)):
            target = root / f"tables-{name}/one" / shard.sentences.name
            write_supported(shard.sentences, table_of(root, number, flags), target, "spacy")
        build(root, f"index-{name}", root / f"tables-{name}")
    build(root, "index-none", root / "sentences")
    build(root, "index-again", root / "tables-first")
    excluded = root / "excluded.npy"
    np.save(excluded, np.zeros(0, np.int64))
    names = {
        name: Inputs.read({}, files_of(root / f"index-{name}", excluded, None)).name
        for name in ("none", "first", "second", "again")
    }
    assert names["first"] == names["again"] and len(set(names.values())) == 3


def test_tables_of_other_captions_and_missing_ones_are_errors(root: Path, tmp_path: Path) -> None:
    first, second = shards_of(root)
    support = table_of(root, 0, FLAGS)
    with pytest.raises(DataError, match=r"flags sentences of raw in row 0 that are not in .*00001\.parquet"):
        write_supported(second.sentences, support, tmp_path / "x.parquet", "spacy")
    rows = pq.read_table(support).to_pylist()
    rows[0]["end"] -= 1
    pq.write_table(pa.Table.from_pylist(rows, schema=SUPPORT), tmp_path / "moved.parquet")
    with pytest.raises(DataError, match="of another splitter than spacy. Run pipelines/audit again"):
        write_supported(first.sentences, tmp_path / "moved.parquet", tmp_path / "x.parquet", "spacy")
    with pytest.raises(DataError, match="not found; data.exclude_unsupported needs a table for each shard"):
        write_supported(first.sentences, tmp_path / "none.parquet", tmp_path / "x.parquet", "spacy")
    assert not (tmp_path / "x.parquet").exists()


@pytest.fixture
def checkout(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the stage index can run, with the corpus that was made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAFT_STORAGE", str(tmp_path))
    for name in ("captions", "sentences"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).symlink_to(root / name)
    shards = shards_of(root)
    listed = [{"name": shard.name, "sha256": shard.name, "successes": 12} for shard in shards]
    files: dict[str, Any] = {
        "corpora.json": [{"name": "one", "fingerprint": "a"}],
        "images/one.json": {"shards": listed, "lost": {}},
        "urls/one.json": {"rows_in": 24, "dropped": {}},
    }
    for name, content in files.items():
        (tmp_path / "data" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_text(json.dumps(content))
    (root / "captions/one.json").write_text(json.dumps({"shards": {shard.name: shard.name for shard in shards}}))
    listing = pa.table({"row_id": pa.array(range(24), pa.int64()), "cause": pa.array([None] * 24, pa.string())})
    pq.write_table(listing, tmp_path / "data/images/one.parquet")
    return tmp_path


def run_stage(*values: str) -> dict[str, Any]:
    stage.main(load_params(PROJECT / "params.yaml", values=values), SimpleNamespace())  # type: ignore[arg-type]
    found: dict[str, Any] = json.loads(Path("metrics/data.json").read_text())["one"]
    return found


def test_the_stage_counts_what_it_leaves_out_and_by_default_leaves_nothing(root: Path, checkout: Path) -> None:
    for number in range(2):
        table_of(root, number, FLAGS)
    plain = run_stage()
    before = {path.name: path.read_bytes() for path in Path("data/index").iterdir()}
    assert plain["rows_out"] == 24 and "unsupported" not in plain
    counted = run_stage(f"data.exclude_unsupported={root / 'support'}")
    assert counted["rows_out"] == 23 and counted["dropped"] == {"unsupported": 1}
    assert counted["unsupported"] == {"sentences": 6, "captions": 2, "images": 1}
    assert not list(checkout.glob("scratch/index/supported-*"))
    assert run_stage("data.exclude_unsupported=null") == plain
    assert {path.name: path.read_bytes() for path in Path("data/index").iterdir()} == before


# ---- the audit of a corpus


def test_a_corpus_is_audited_sentence_by_sentence_and_flagged_as_a_whole(network, root: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shards = shards_of(root)
    judge = choose_others(network, shards)
    assert sorted(judge.keys) == list(range(24))
    tables = []
    for shard in shards:
        counts = score_shard(judge, shard, "spacy", tmp_path / shard.captions.name)
        assert counts["unreadable"] == 0
        tables.append(tmp_path / shard.captions.name)
    rows = [found for path in tables for found in pq.read_table(path).to_pylist()]
    expected = [
        (place, caption, number, (row(place)[field] or "")[a:b])
        for place in range(24)
        for field, caption in enumerate(FIELDS)
        for number, (a, b) in enumerate(spans(row(place)[field] or "", "spacy"))
    ]
    assert [(r["row_id"], r["caption"], r["number"], r["sentence"]) for r in rows] == expected
    supports = np.array([np.nan if found["support"] is None else found["support"] for found in rows])
    for share in (None, 0.3):
        found = flag(tables, share)
        threshold = least_support(supports, share)
        flags = [bool(value < np.float32(threshold)) for value in supports.astype(np.float32)]
        written = [entry["flagged"] for path in tables for entry in pq.read_table(path).to_pylist()]
        assert written == flags and found["flagged"] == sum(flags) and found["sentences"] == len(rows)
        of_image = {entry["row_id"]: [] for entry in rows}
        for entry, is_flagged in zip(rows, flags, strict=True):
            of_image[entry["row_id"]].append(is_flagged)
        assert found["images"] == sum(all(some) for some in of_image.values())
    assert pq.read_schema(tables[0]).equals(SUPPORT, check_metadata=False)
    left = write_supported(shards[0].sentences, tables[0], tmp_path / "left.parquet", "spacy")
    assert left.sentences == sum(entry["flagged"] for entry in pq.read_table(tables[0]).to_pylist()) > 0
    assert pq.read_schema(tmp_path / "left.parquet").equals(SENTENCES)


def test_a_picture_that_cannot_be_read_is_counted_and_never_flagged(network, root: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (shard, second) = shards_of(root)
    damaged = tmp_path / "damaged.tar"
    content = bytearray(shard.tar.read_bytes())
    first = pq.read_table(shard.captions).to_pylist()[3]
    content[first["offset"] : first["offset"] + 40] = bytes(40)
    damaged.write_bytes(content)
    judge = choose_others(network, [shard._replace(tar=damaged), second])
    assert first["row_id"] not in judge.keys and len(judge.keys) == 23
    counts = score_shard(judge, shard._replace(tar=damaged), "spacy", tmp_path / "00000.parquet")
    assert counts["unreadable"] == 1
    found = flag([tmp_path / "00000.parquet"], 0.9)
    rows = pq.read_table(tmp_path / "00000.parquet").to_pylist()
    own = [entry for entry in rows if entry["row_id"] == first["row_id"]]
    assert own and all(entry["support"] is None and not entry["flagged"] for entry in own)
    assert found["without_support"] >= len(own)


@pytest.mark.parametrize(("arm", "left_out"), [("dirty", None), ("filtered", "/h/dirty/data/support"), ("clean", None)])
def test_of_a_comparison_one_arm_alone_leaves_sentences_out(arm: str, left_out: str | None) -> None:
    """Also where the settings do, as after `dvc exp run -S data.exclude_unsupported=...`."""
    given = ["data.exclude_unsupported=data/unsupported"]
    arguments = argparse.Namespace(params=PROJECT / "params.yaml", overlay=[], set=given, rate=0.2)
    words = audit_compare._settings(arguments, arm, 0, Path("/h"))
    values = [value for word, value in pairwise(words) if word == "--set"]
    assert load_params(PROJECT / "params.yaml", [], values).data.exclude_unsupported == left_out
