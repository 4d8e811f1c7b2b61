"""Look-alikes by kind, against loops over the scores that are written out here."""

from pathlib import Path

import numpy as np
import pytest
import torch

from caft.data.sets.groups import Group
from caft.eval.scores.kinds import TABLE, kind_rows, score_kinds
from caft.eval.scores.retrieval_sets import score_retrieval
from caft.model.encoding import EncodedCaptions, EncodedImages
from caft.model.scores import blend, part_scores, whole_scores
from caft.params import load_params

PROJECT = Path(__file__).parents[2]
GROUPS = (Group("place", (0, 5, 3, 9)), Group("colour", (1, 2)), Group("place", (4, 8, 6)), Group("colour", (7, 10)))


@pytest.fixture(scope="module")
def evaluation():
    return load_params(PROJECT / "params.yaml").evaluation


@pytest.fixture(scope="module")
def encoded(network):
    """Eleven pairs whose captions are like their images, more or less."""
    torch.manual_seed(3)
    unit = torch.nn.functional.normalize
    whole, part = unit(torch.randn(11, 64), dim=-1), torch.randn(11, 32, 64)
    texts = unit(whole + 0.2 * torch.randn(11, 64), dim=-1)
    return EncodedImages(whole, part), EncodedCaptions(texts, torch.randn(11, 4, 64), 0, 0, 44, 44, 44)


def by_hand(matrix, groups, text_looks):
    """0 or 1 for each query, group by group."""
    hits = []
    for group in groups:
        for query in group.members:
            rivals = [one for one in group.members if one != query]
            others = [float(matrix[r, query] if text_looks else matrix[query, r]) for r in rivals]
            hits.append(float(all(float(matrix[query, query]) > other for other in others)))
    return hits


def test_a_query_is_right_if_its_match_is_first_in_its_group(network, encoded, evaluation):
    images, captions = encoded
    whole = whole_scores(network, images.whole, captions.whole)
    part = part_scores(network, images.part, captions.parts)
    scores = {"whole": whole, "part": part}
    scores |= {f"blend_{w}": blend(network, whole, part, w) for w in (0.3, 0.7)}
    found = score_kinds(network, images, captions, evaluation, GROUPS)
    assert list(found) == ["place", "colour"]
    for kind, entry in found.items():
        groups = [group for group in GROUPS if group.kind == kind]
        assert set(entry) == {"groups", "queries", "chance", *scores}
        for name, matrix in scores.items():
            for way, text_looks in (("i2t_r1", False), ("t2i_r1", True)):
                assert entry[name][way]["value"] == pytest.approx(100 * np.mean(by_hand(matrix, groups, text_looks)))
    # Seven queries, four of which draw from four and three from three: (4/4 + 3/3) / 7.
    assert (found["place"]["queries"], found["place"]["groups"]) == (7, 2)
    assert found["place"]["chance"] == pytest.approx(100 * 2 / 7)
    assert (found["colour"]["queries"], found["colour"]["chance"]) == (4, 50.0)


def test_ties_within_a_group_count_against_the_model(network, encoded, evaluation):
    images, captions = encoded
    same = EncodedImages(images.whole[:1].expand(11, -1), images.part[:1].expand(11, -1, -1))
    found = score_kinds(network, same, captions, evaluation, GROUPS)
    assert all(entry[name]["t2i_r1"]["value"] == 0 for entry in found.values() for name in ("whole", "part"))


def test_the_interval_draws_whole_groups(network, encoded, evaluation):
    """Against a bootstrap of other draws, over forty groups of which half are all right and half all wrong."""
    images, captions = encoded
    torch.manual_seed(0)
    unit = torch.nn.functional.normalize(torch.randn(160, 64), dim=-1)
    texts = unit.clone()
    texts[80:] = texts[80:].view(20, 4, 64).roll(1, 1).reshape(80, 64)
    groups = [Group("place", tuple(range(first, first + 4))) for first in range(0, 160, 4)]
    found = score_kinds(
        network, EncodedImages(unit, None), EncodedCaptions(texts, None, 0, 0, 640, 640, 640), evaluation, groups
    )["place"]
    assert set(found) == {"groups", "queries", "chance", "whole"}
    ends = found["whole"]["t2i_r1"]
    assert ends["value"] == 50.0
    rng = np.random.default_rng(99)
    shares = [100 * (rng.integers(0, 40, 40) < 20).mean() for _ in range(4000)]
    low, high = np.percentile(shares, [2.5, 97.5])  # 35 to 65; of 160 independent queries it would be 42 to 58
    assert abs(ends["low"] - low) <= 2.5 and abs(ends["high"] - high) <= 2.5


def test_rendered_look_alikes_have_their_kinds_beside_their_scores(model, small, evaluation):
    from caft.data.sets import load_retrieval

    params, folder = small
    benchmark = params.benchmarks["look_alike"]
    found = load_retrieval(benchmark.model_copy(update={"path": str(folder / benchmark.path)}))
    assert [(group.kind, group.members) for group in found.groups] == [
        (kind, tuple(range(first, first + 4)))
        for first, kind in zip(range(0, 16, 4), ("colour", "pattern", "shape", "size"), strict=True)
    ]
    entry, _ = score_retrieval(model, found, evaluation)
    assert list(entry["by_kind"]) == ["colour", "pattern", "shape", "size"]
    rows = list(kind_rows({"look_alike": entry, "dci": {"not_run": "not there"}}))
    assert len(rows) == 4 * 4 * 2 and all(set(row) == set(TABLE) for row in rows)
    assert {row["chance"] for row in rows} == {25.0}
