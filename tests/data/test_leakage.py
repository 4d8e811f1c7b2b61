"""Near-duplicates of evaluation images in the training data: what counts as one, the counts, and what is left out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import skimage.data
import yaml
from PIL import Image

from caft.data.sets import Missing
from caft.data.training import subsets
from caft.data.training.leakage import (
    MOST_BITS,
    confirmed,
    has_detail,
    hash_index,
    images_of,
    near_duplicates,
    perceptual_hash,
)
from caft.data.training.reader import TrainingIndex
from caft.errors import DataError
from caft.params import load_params
from tests.faults import stages
from tests.faults.conftest import Finished, disk, finished  # noqa: F401

PROJECT = Path(__file__).parents[2]
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "camera", "immunohistochemistry")


def photograph(name: str) -> Image.Image:
    return Image.fromarray(getattr(skimage.data, name)()).convert("RGB")


def bits(first: Image.Image, second: Image.Image) -> int:
    return (perceptual_hash(first) ^ perceptual_hash(second)).bit_count()


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_a_copy_of_another_size_and_encoding_is_near_and_no_other_picture_is(name: str, tmp_path: Path) -> None:
    whole = photograph(name)
    small = whole.resize((whole.width * 256 // whole.height, 256), Image.Resampling.BICUBIC)
    small.save(tmp_path / "copy.jpg", quality=60)
    assert bits(whole, Image.open(tmp_path / "copy.jpg").convert("RGB")) <= MOST_BITS
    others = [bits(whole, photograph(other)) for other in PHOTOGRAPHS if other != name]
    assert min(others) >= 16
    assert bits(whole, whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) > MOST_BITS


def test_pictures_of_one_hash_but_other_colours_are_not_confirmed() -> None:
    whole = photograph("coffee")
    turned = Image.merge("RGB", [whole.split()[i] for i in (2, 0, 1)])
    pictures = [whole, whole.resize((300, 200), Image.Resampling.BICUBIC), turned, photograph("chelsea")]
    pairs = np.array([[0, place] for place in range(4)])
    assert confirmed(pairs, pictures.__getitem__, pictures.__getitem__).tolist() == [True, True, False, False]
    assert confirmed(np.zeros((0, 2), np.int64), pictures.__getitem__, pictures.__getitem__).tolist() == []


def test_a_picture_of_one_colour_tells_nothing() -> None:
    flat = [perceptual_hash(Image.new("RGB", (90, 60), colour)) for colour in ("black", "white", (20, 90, 200))]
    assert not has_detail(np.array(flat, np.uint64)).any()
    pairs, _ = near_duplicates(np.array(flat, np.uint64), np.array(flat, np.uint64))
    assert not len(pairs)


@pytest.mark.parametrize("most", [0, 1, 4, 9])
def test_pairs_are_those_of_a_loop_over_all(most: int) -> None:
    rng = np.random.default_rng(most)
    first = rng.integers(0, 2**64, 300, dtype=np.uint64)
    second = rng.integers(0, 2**64, 40, dtype=np.uint64)
    for place in range(30):  # neighbours at a distance of 0 to 11 bits, anywhere; some of them share a neighbour
        flips = rng.choice(64, place % 12, replace=False)
        second[place] = first[place % 20] ^ np.bitwise_or.reduce(
            np.array([0, *(1 << int(bit) for bit in flips)], np.uint64)
        )
    second[30:35] = 0  # of pictures without detail
    expected = [
        (i, j, (int(a) ^ int(b)).bit_count())
        for i, a in enumerate(first)
        for j, b in enumerate(second)
        if (int(a) ^ int(b)).bit_count() <= most and 8 <= int(a).bit_count() <= 56 and 8 <= int(b).bit_count() <= 56
    ]
    pairs, differing = near_duplicates(first, second, most)
    assert [(*pair, count) for pair, count in zip(pairs.tolist(), differing.tolist(), strict=True)] == expected
    assert len(expected) >= 2


def test_what_is_left_out() -> None:
    assert subsets.without(np.arange(5), np.array([1, 4, 9])).tolist() == [0, 2, 3]
    assert subsets.without(np.arange(3), np.zeros(0, np.int64)).tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="all 2 training images look like those of an evaluation set"):
        subsets.without(np.arange(2), np.arange(5))
    with pytest.raises(DataError, match="run `dvc repro leakage`"):
        subsets.read_excluded(Path("nowhere.npy"))


def test_pictures_of_every_kind_of_set_are_found_or_said_to_be_missing() -> None:
    params = load_params(PROJECT / "params.yaml")
    kinds = {benchmark.kind for benchmark in params.benchmarks.values()}
    assert kinds == {"retrieval", "referring", "regions", "zero_shot", "composition", "segmentation"}
    for benchmark in params.benchmarks.values():
        found = images_of(benchmark)
        assert isinstance(found, Missing) or len(set(found)) == len(found)


@pytest.mark.slow
def test_the_stage_counts_copies_and_leaves_them_out_if_asked(finished: Finished, disk: Path) -> None:  # noqa: F811
    finished.run_up_to("index")
    checkout = finished.before("leakage", disk)
    index = checkout / "data/index"
    reader = TrainingIndex(index, checkout / "images")
    told = np.flatnonzero(has_detail(hash_index(index, checkout / "images", checkout / "kept")))[[3, 60]].tolist()
    # Two training images, one of them in another size, take the places of two that are asked for.
    asked = sorted((checkout / "data/benchmarks/scenes/random/image").iterdir())
    reader.picture(told[0]).save(asked[0])
    # Larger, so that none of its detail is lost: which pictures there are depends on what the fetch could get.
    reader.picture(told[1]).resize((128, 128), Image.Resampling.BICUBIC).save(asked[1])

    def run(excluding: bool) -> tuple[dict[str, Any], list[int], list[dict[str, Any]]]:
        path = checkout / "params.yaml"
        content = yaml.safe_load(path.read_text())
        content["data"]["exclude_eval_duplicates"] = excluding
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        done = stages.run("leakage", checkout)
        assert done.code == 0, done.log
        metrics = json.loads((checkout / "metrics/leakage.json").read_text())
        pairs = pq.read_table(checkout / "data/leakage.parquet").to_pylist()
        return metrics, np.load(checkout / "data/excluded.npy").tolist(), pairs

    metrics, left_out, pairs = run(False)
    assert left_out == [] and metrics["excluded"] == 0
    found = {(pair["position"], Path(pair["image"]).name) for pair in pairs if pair["benchmark"] == "random"}
    assert {(told[0], asked[0].name), (told[1], asked[1].name)} <= found
    assert all(pair["row_id"] == int(reader.row_ids[pair["position"]]) for pair in pairs)
    entry = metrics["sets"]["random"]
    assert entry["images"] == 8 and entry["seen_in_training"] >= 2 and entry["training_images"]["scenes"] >= 2
    assert "not found" in metrics["sets"]["dci"]["not_run"]

    metrics, left_out, pairs = run(True)
    assert left_out == sorted({pair["position"] for pair in pairs}) and set(told) <= set(left_out)
    assert metrics["excluded"] == metrics["near_duplicates"] == len(left_out)
