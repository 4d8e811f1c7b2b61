"""Support against naive loops, AUROC by kind against scikit-learn, and what an audit has caught against a count by hand."""

import csv
import itertools
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from caft.captions.sentences import spans
from caft.captions.tokenizer import tokenize
from caft.data.scenes.false_sentences import Planted, write_truth
from caft.data.scenes.grammar import COLOURS, RANDOM, SPEC, generator, random_scene
from caft.data.tables.support_table import SUPPORT
from caft.errors import DataError
from caft.eval.analysis import planted as of_planted
from caft.eval.analysis.filtered import caught, regained
from caft.model.encoding import encode_squashed
from caft.model.shares import score_shares
from caft.model.support import Judge, least_support, support

CAPTIONS = [
    "A cat.",  # one sentence in four chunks
    "A red cat sits on a mat. It sleeps. The mat is grey. A lamp stands behind it.",
    "A red cat. It sleeps. The mat is grey. A lamp stands there. It is on. The room is dark. A clock ticks.",
]


def naive_score(model, path, caption, weight):
    """CAFT++ in float64, chunk by chunk, by the network's own layers."""
    found = spans(caption, model.card.splitter)
    size, extra = divmod(len(found), 4)
    ends = list(itertools.accumulate(size + (chunk < extra) for chunk in range(4)))
    groups = [found[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    if len(found) < 4:
        groups = [[found[chunk % len(found)]] for chunk in range(4)]
    chunks = [" ".join(caption[a:b] for a, b in group) for group in groups]
    network, picture = model.network, model.encode_images([path])
    whole, parts = network.text_features(tokenize(chunks, network.context)[None])
    pool, part = deepcopy(network.pool).double(), 0.0
    for text in parts[0].double():
        with torch.no_grad():
            pooled = pool(text[None, None], picture.part.double())[0][0, 0]
        part += float(pooled @ text / pooled.norm() / text.norm()) / 4
    scales = [float(network.temperature(level)[0].double().exp()) for level in ("whole", "part")]
    return (1 - weight) * scales[0] * float(picture.whole[0].double() @ whole[0].double()) + weight * scales[1] * part


@pytest.fixture(scope="module")
def reader(model):
    """The model with sentences by spaCy, which chunks join by a space."""
    assert model.card.chunks == 4
    return replace(model, card=model.card.model_copy(update={"splitter": "spacy"}))


@pytest.mark.parametrize("caption", CAPTIONS)
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_shares_add_up_to_the_score(reader, pictures, caption, weight):
    found = score_shares(reader, pictures[0], caption, weight)
    assert sum(s.share for s in found.sentences) == pytest.approx(sum(found.chunks), abs=1e-6)
    assert found.score == pytest.approx(found.whole + sum(found.chunks), abs=1e-6)
    assert found.score == pytest.approx(naive_score(reader, pictures[0], caption, weight), abs=1e-6)
    assert found.score == pytest.approx(float(reader.similarity(pictures[0], caption, weight)), abs=1e-4)
    assert [s.text for s in found.sentences] == [caption[a:b] for a, b in spans(caption, reader.card.splitter)]


def test_a_chunk_is_divided_by_what_its_sentences_are_alone(reader, pictures):
    found = score_shares(reader, pictures[0], CAPTIONS[2])
    assert [s.chunks for s in found.sentences] == [(0,), (0,), (1,), (1,), (2,), (2,), (3,)]
    for a, b, chunk in ((0, 1, 0), (2, 3, 1), (4, 5, 2)):
        first, second = found.sentences[a], found.sentences[b]
        together = found.chunks[chunk] / (0.3 / 4)
        # Shapley's value of two: the mean of what each adds as the first and as the second, where nothing said is worth 0;
        # a chunk by itself is worth its part-level logit.
        assert first.share / (0.3 / 4) == pytest.approx((first.alone + together - second.alone) / 2, abs=1e-6)
    assert found.sentences[6].share == pytest.approx(found.chunks[3], abs=1e-12)
    (one,) = score_shares(reader, pictures[0], CAPTIONS[0]).sentences
    assert one.chunks == (0, 1, 2, 3) and one.share == pytest.approx(0.3 * one.alone, abs=1e-6)


# ---- support


def naive_support(own, others):
    return own - sum(others) / len(others)


@pytest.mark.parametrize("count", [8, 25, 128])
def test_support_is_the_distance_to_the_mean_of_the_others(count):
    rng = np.random.default_rng(count)
    own, others = rng.normal(size=5), rng.normal(size=(count, 5))
    everything = np.ones(others.shape, bool)
    expected = [naive_support(own[s], others[:, s].tolist()) for s in range(5)]
    np.testing.assert_allclose(support(own, others, everything), expected)
    without = everything.copy()
    without[3, 2] = False  # its own picture is among the others, which may not change anything else
    moved = others.copy()
    moved[3, 2] = 99.0
    np.testing.assert_allclose(support(own, moved, without)[[0, 1, 3, 4]], np.array(expected)[[0, 1, 3, 4]])
    left = np.delete(others[:, 2], 3)
    assert support(own, moved, without)[2] == pytest.approx(own[2] - left.mean())


def test_a_sentence_to_which_all_pictures_are_alike_has_no_support():
    assert np.isnan(support([1.0], np.full((9, 1), 0.5) + 1e-6 * np.arange(9)[:, None], np.ones((9, 1)))).all()
    with pytest.raises(DataError, match="no sentence has a support"):
        least_support([np.nan, np.nan])


def test_the_fence_is_tukeys_and_a_share_is_a_quantile():
    values = np.arange(1, 101.0)  # quartiles 25.75 and 75.25
    assert least_support([*values, np.nan]) == pytest.approx(25.75 - 1.5 * 49.5)
    assert least_support(values, 0.2) == pytest.approx(np.quantile(values, 0.2))
    assert (values < least_support(values, 0.2)).sum() == 20


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)) for _ in range(10)]


def test_the_judge_scores_each_sentence_alone_and_leaves_its_own_picture_out(network, drawn):
    texts = [["a red cat", "a dog"], [], ["a lamp"]]
    judge = Judge.of(network, list("abcdefgh"), drawn[:8])
    found = judge.score(["c", "x", "y"], [drawn[2], drawn[8], drawn[9]], texts)
    parts = [features.part for features in encode_squashed(network, drawn)]
    for place, (text, picture) in enumerate((("a red cat", 2), ("a dog", 2), ("a lamp", 9))):
        asked = network.sub_caption_features(tokenize([text], network.context))
        logits = torch.cat([network.part_logits(part, asked)[0] for part in parts]).tolist()
        others = [logits[other] for other in range(8) if other != picture]
        assert found.logits[place] == pytest.approx(logits[picture], abs=1e-4)
        assert found.support[place] == pytest.approx(naive_support(logits[picture], others), abs=1e-3)


def test_too_few_pictures_are_an_error(network, drawn):
    with pytest.raises(DataError, match="3 pictures: .* expects 8 at least"):
        Judge.of(network, range(3), drawn[:3])


# ---- planted sentences


def test_auroc_by_kind_is_scikit_learns(network, monkeypatch):
    kept = {}
    by_kind = of_planted._by_kind
    monkeypatch.setattr(of_planted, "_by_kind", lambda *found: kept.update(found=found) or by_kind(*found))
    scores = of_planted.measure(network, 24, 0.3, 7, 64)
    cases, values, logits = kept["found"]
    for kind in ("colour", "relation", "all"):
        false = np.array([case.kind == kind or (kind == "all" and case.kind != "") for case in cases])
        among = np.array([not case.kind and (kind == "all" or kind in case.could) for case in cases])
        for key, scored, true in (
            ("auroc", values, among),
            ("auroc_logit", logits, among),
            ("auroc_all", values, np.array([not case.kind for case in cases])),
        ):
            both = false | true
            assert scores[kind][key] == pytest.approx(100 * roc_auc_score(true[both], scored[both])), (kind, key)
        assert scores[kind]["sentences"] == false.sum()
    assert 0 < scores["all"]["sentences"] / len(cases) < 0.5


def test_cases_of_a_scene_say_what_is_false_of_them():
    for number in range(30):
        scene = random_scene(generator(3, RANDOM, number, SPEC))
        cases = of_planted.cases_of(scene, number, 3, 1.0)
        clean = of_planted.cases_of(scene, number, 3, 0.0)
        assert len(cases) == len(clean) and not any(case.kind for case in clean)
        for case, before in zip(cases, clean, strict=True):
            assert case.could == before.could and (case.kind in case.could if case.could else case.kind == "")
            assert (case.text != before.text) == bool(case.kind)
            if case.kind == "colour":
                (said,) = set(case.text.lower().split()) & set(COLOURS)
                assert case.elsewhere == (said in {item.colour for item in scene.objects})


def test_seeds_of_plantings_have_intervals_within_0_and_100(network):
    found = of_planted.over_plantings(network, 12, 0.5, 2, 64)
    entry = found["all"]["auroc"]
    assert 0 <= entry["low"] <= entry["value"] <= entry["high"] <= 100


def test_what_was_caught_is_counted_by_kind(tmp_path):
    texts = ["A red cat.", "A blue dog.", "It is left of it.", "It sleeps."]
    supports, flags = [0.2, 0.9, 1.0, 0.5], [True, False, False, True]
    rows = [
        {"row_id": 4, "caption": "long_ib", "number": n, "start": 0, "end": 9, "sentence": text, "logit": 0.0,
         "support": value, "flagged": flag}
        for n, (text, value, flag) in enumerate(zip(texts, supports, flags, strict=True))
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema=SUPPORT), tmp_path / "00000.parquet")
    truth = [
        Planted(4, "long_ib", 0, "colour", "A green cat.", "A red cat."),
        Planted(4, "long_ib", 1, "colour", "x", texts[1]),
    ]
    write_truth(tmp_path / "truth.csv", truth)
    found = caught([tmp_path / "00000.parquet"], tmp_path / "truth.csv")
    assert (found["flagged"], found["false"], found["both"]) == (2, 2, 1)
    # True: 1.0 and 0.5. False: 0.2 and 0.9. Of four pairs, three are in order.
    assert found["kinds"] == {kind: {"sentences": 2, "auroc": 75.0, "flagged": 50.0} for kind in ("all", "colour")}
    with (tmp_path / "truth.csv").open(newline="") as file:
        assert [row["kind"] for row in csv.DictReader(file)] == ["colour", "colour"]
    write_truth(tmp_path / "other.csv", [Planted(4, "long_ib", 0, "colour", "A green cat.", "A pink cat.")])
    with pytest.raises(DataError, match=r"sentence 0 of long_ib in row 4 is 'A red cat\.', and 'A pink cat\.'"):
        caught([tmp_path / "00000.parquet"], tmp_path / "other.csv")


def test_what_is_regained_is_a_share_of_the_cost():
    def entry(t2i, i2t):
        return {"random": {"pairs": 9, "whole": {"t2i_r1": t2i, "i2t_r1": i2t, "t2i_r5": 99}}}

    scores = {"clean": {"0": entry(80, 60), "1": entry(90, 70)}, "dirty": {"0": entry(60, 40), "1": entry(60, 40)}}
    scores["filtered"] = {"0": entry(70, 50), "1": entry(75, 55)}
    assert regained(scores) == {"random": {"whole": {"clean": 75, "dirty": 50, "filtered": 62.5, "regained": 0.5}}}
    scores["dirty"] = scores["clean"]
    assert regained(scores)["random"]["whole"]["regained"] is None
