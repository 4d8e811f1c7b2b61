"""The model's scores by other people's metrics: each is given our features, scores or masks, and must find our number."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco

from caft.adapters.open_clip import CaptionTokenizer, OpenClipModel, PictureTransform
from caft.data.sets import load_retrieval
from caft.eval.scores.cache import encode_pairs
from caft.eval.scores.referring import ReferringTally, ask, score_expressions
from caft.eval.scores.retrieval import recall_at_k
from caft.eval.scores.retrieval_sets import level_scores, score_retrieval
from caft.model.otsu import otsu_mask
from caft.model.scores import blend
from tests.peers import peer

KS = (1, 5, 10)


@pytest.fixture(scope="module")
def pairs(small):
    params, folder = small
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        found = load_retrieval(params.benchmarks["look_alike"])
    found.images[:] = [folder / path for path in found.images]
    return params, found


@pytest.fixture(scope="module")
def scores(model, pairs):
    """Scores of all pairs, (images, captions), by name."""
    found = level_scores(model.network, *encode_pairs(model, pairs[1].images, pairs[1].captions, 8))
    for weight in pairs[0].evaluation.blend:
        found[f"blend_{weight:g}"] = blend(model.network, found["whole"], found["part"], weight)
    return found


@pytest.mark.slow  # its import
@pytest.mark.parametrize("name", ["whole", "part", "blend_0.3", "blend_0.7"])
def test_recall_is_torchmetrics(model, pairs, scores, name):
    retrieval = peer("torchmetrics.retrieval")
    entry, _ = score_retrieval(model, pairs[1], pairs[0].evaluation)
    assert entry["tied_rows"] == 0  # it gives some of them to the match
    for direction, rows in (("i2t", scores[name]), ("t2i", scores[name].T)):
        values = rows - rows.min() + 1  # one that is 0 or less, it never retrieves
        asked = torch.arange(len(rows))[:, None].expand_as(rows)
        for k in KS:
            found = retrieval.RetrievalRecall(top_k=k)(
                values.flatten(), torch.eye(len(rows), dtype=torch.bool).flatten(), asked.flatten()
            )
            assert 100 * float(found) == pytest.approx(entry[name][f"{direction}_r{k}"], abs=1e-4)


@pytest.mark.slow
def test_recall_of_several_captions_an_image_is_torchmetrics_hit_rate():
    retrieval = peer("torchmetrics.retrieval")
    rng = np.random.default_rng(0)
    truth = np.concatenate([np.arange(20), rng.integers(0, 20, 43)])
    values = rng.random((20, 63)) + 0.3 * (truth == np.arange(20)[:, None])
    ours = recall_at_k(values, truth, KS)
    for direction, rows, match in (
        ("i2t", values, truth == np.arange(20)[:, None]),
        ("t2i", values.T, np.arange(20) == truth[:, None]),
    ):
        asked = torch.arange(len(rows))[:, None].expand(*rows.shape)
        for k in KS:
            found = retrieval.RetrievalHitRate(top_k=k)(
                torch.from_numpy(rows).flatten(), torch.from_numpy(match).flatten(), asked.flatten()
            )
            assert 100 * float(found) == pytest.approx(ours[f"{direction}_r{k}"], abs=1e-4)


@pytest.mark.slow
def test_clip_score_is_torchmetrics(model, pairs):
    multimodal = peer("torchmetrics.functional.multimodal.clip_score")  # exported where transformers is installed
    adapter, transform = OpenClipModel(model), PictureTransform(model.network.image_size)
    tokenizer = CaptionTokenizer(model.card, model.network.context)
    images = [torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in pairs[1].images]

    def processor(images=None, text=None, **_):
        """As transformers' processors are called."""
        if images is not None:
            return {"pixel_values": torch.stack([transform(image) for image in images])}
        ids = tokenizer(text)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    theirs = SimpleNamespace(
        config=None,
        to=lambda device: theirs,
        get_image_features=adapter.encode_image,
        get_text_features=lambda ids, mask: adapter.encode_text(ids),
    )
    encoded, read = encode_pairs(model, pairs[1].images, pairs[1].captions, 8)
    cosines = (encoded.whole * read.whole).sum(1)
    assert cosines.mean() > 0  # below, it gives 0
    found = multimodal.clip_score(images, pairs[1].captions, lambda: (theirs, processor))
    assert float(found) == pytest.approx(100 * float(cosines.mean()), abs=1e-4)


def test_the_nearest_pictures_are_faiss(model, pairs, scores):
    faiss = peer("faiss")
    encoded, read = encode_pairs(model, pairs[1].images, pairs[1].captions, 8)
    index = faiss.IndexFlatIP(encoded.whole.shape[1])
    index.add(encoded.whole.numpy())
    cosines, nearest = index.search(read.whole.numpy(), 10)
    scale = model.network.whole_scale
    for caption, text in enumerate(pairs[1].captions):
        found = model.retrieve(text, encoded, 10, part_weight=0)
        assert [match.image for match in found] == nearest[caption].tolist()
        assert [match.score for match in found] == pytest.approx((scale * cosines[caption]).tolist(), abs=1e-4)
    ours = recall_at_k(scores["whole"].numpy(), ks=KS)
    for k in KS:
        hits = (nearest[:, :k] == np.arange(len(nearest))[:, None]).any(1)
        assert 100 * hits.mean() == pytest.approx(ours[f"t2i_r{k}"])


def test_overlaps_are_cocos(network, scenes):
    tally, ious, areas = ReferringTally(), [], np.zeros(2)
    stage = network.config.part_stage - 1

    def runs(mask):
        return coco.encode(np.asfortranarray(mask.astype(np.uint8)))

    for asked in ask(network, scenes["phrase"].images[:6], 8):
        size = (asked.image.height, asked.image.width)
        asked.score(network, stage, "hard", tally)
        maps = asked.stages.maps(network, stage, asked.texts, size, "hard")
        for values, expression in zip(maps, asked.image.expressions, strict=True):
            found, truth = runs(otsu_mask(values)), runs(asked.objects[expression.annotation])
            ious.append(float(coco.iou([found], [truth], [0])[0, 0]))
            areas += coco.area(coco.merge([found, truth], intersect=True)), coco.area(coco.merge([found, truth]))
    scores = tally.scores()
    assert scores["expressions"] == len(ious) > 6 and 0 < scores["miou"] < 100
    assert scores["miou"] == pytest.approx(100 * np.mean(ious), abs=1e-12)
    assert scores["overall_iou"] == pytest.approx(100 * areas[0] / areas[1], abs=1e-12)


def test_means_of_the_rows_are_pandas(network, scenes):
    scores, rows = score_expressions(network, scenes["phrase"], 8)
    table = pd.DataFrame([{"level": row.level, **row.score._asdict(), "iou": row.score.iou} for row in rows])
    by_level = 100 * table.groupby("level")["iou"].mean()
    assert {str(level): value for level, value in by_level.items()} == pytest.approx(scores["miou_by_level"], abs=1e-12)
    part = table[table["level"] == network.config.tokens[network.config.part_stage - 1]]
    assert scores["pointing"] == pytest.approx(100 * part["pointing"].mean(), abs=1e-12)
    assert scores["miou_wrong_expression"] == pytest.approx(100 * part["wrong"].mean(), abs=1e-12)
    assert scores["overall_iou"] == pytest.approx(100 * part["intersection"].sum() / part["union"].sum(), abs=1e-12)
