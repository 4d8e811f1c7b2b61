"""mIoU against mmsegmentation, torchmetrics and scikit-learn, and predictions against plain loops over pixels."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import jaccard_score

from caft.captions.tokenizer import tokenize
from caft.data.sets import load_segmentation
from caft.data.sets.segmentation import IGNORED
from caft.eval.scores import segmentation
from caft.eval.scores.segmentation import MAPS, SegmentationTally, class_queries, predict, score_segmentation
from caft.eval.scores.zero_shot import prompts
from caft.model.encoding import encode_squashed
from caft.params.sets import BenchmarkParams
from tests.data.published import write_ade20k, write_voc


def images():
    """Predictions and truths: of seven classes five are true, one is predicted only, and one never occurs."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(5):
        truth = rng.integers(0, 6, (20, 30))
        truth[truth == 5] = IGNORED
        truth[:2] = IGNORED
        kept = np.where(truth == IGNORED, 0, truth)
        found.append((np.where(rng.random((20, 30)) < 0.5, kept, rng.integers(0, 6, (20, 30))), truth))
    return found


def tally(pairs, classes=7):
    counted = SegmentationTally(classes)
    for predicted, truth in pairs:
        counted.add(predicted, truth)
    return counted.scores()


def test_mmsegmentation_and_torchmetrics_give_the_same():
    """`IoUMetric` of mmsegmentation 1.2.2 and `MulticlassJaccardIndex` of torchmetrics 1.9.0, run on these very images."""
    found = tally(images())
    assert found["miou"] == pytest.approx(38.38514, abs=1e-4) and found["pixel_accuracy"] == pytest.approx(
        60.784317, abs=1e-4
    )
    assert found["iou"][:6] == pytest.approx([45.27972, 45.950413, 44.798657, 45.378152, 48.90388, 0.0], abs=1e-4)
    assert found["iou"][6] is None, "a class that never occurs is not in the mean"
    assert found["miou_interval"]["low"] < found["miou"] < found["miou_interval"]["high"]


def test_scikit_learn_gives_the_same():
    predicted, truth = (np.concatenate([pair[place].ravel() for pair in images()]) for place in (0, 1))
    scored = truth != IGNORED
    iou = jaccard_score(truth[scored], predicted[scored], labels=range(6), average=None)
    assert tally(images())["iou"][:6] == pytest.approx(100 * iou)


def test_sums_are_over_images_before_any_mean():
    """Class 0: of image one 1 of 4 pixels, of image two 8 of 8. Means by image would give 62.5, the sums 9 of 12."""
    first = (np.array([[0, 1, 1, 1]]), np.array([[0, 0, 0, 0]]))
    second = (np.zeros((2, 4), int), np.zeros((2, 4), int))
    found = tally([first, second], 2)
    assert found["iou"] == [75.0, 0.0] and found["miou"] == 37.5 and found["pixel_accuracy"] == 75.0


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match="no pixel was scored"):
        tally([(np.zeros((2, 2), int), np.full((2, 2), IGNORED))])
    with pytest.raises(ValueError, match="no pixel was scored"):
        tally([])
    with pytest.raises(ValueError, match="shape"):
        tally([(np.zeros((2, 2), int), np.zeros((2, 3), int))])
    with pytest.raises(ValueError, match="class 7 of 7"):
        tally([(np.full((2, 2), 7), np.zeros((2, 2), int))])


# ---------------------------------------------------------------------- a model


def spec(path, layout, **more):
    return BenchmarkParams(kind="segmentation", layout=layout, path=str(path), **more)


@pytest.fixture
def ade(tmp_path):
    write_ade20k(tmp_path)
    return load_segmentation(spec(tmp_path, "ade20k", prompts=("a {name}.", "the {name}")))


def test_a_class_is_the_mean_of_its_prompts(model, ade):
    found = class_queries(model.network, ade, 2)
    for name, feature in zip(ade.classes, found, strict=True):
        rows = model.network.sub_caption_features(tokenize([f"a {name}.", f"the {name}"]))
        mean = sum(row / row.norm() for row in rows) / 2
        assert torch.allclose(feature, mean, atol=1e-5)


def test_without_prompts_they_are_clips(model, tmp_path):
    write_ade20k(tmp_path)
    found = load_segmentation(spec(tmp_path, "ade20k"))
    rows = model.network.sub_caption_features(tokenize(prompts("building")))
    mean = sum(row / row.norm() for row in rows) / 80
    assert torch.allclose(class_queries(model.network, found, 64)[1], mean, atol=1e-5)


def plain(network, features, texts, size, way):
    """Value of every class for every pixel at the model's size, by loops, enlarged."""
    part, labels = features.part[0], features.labels[0]
    members = [assignment[0].argmax(1) for assignment in features.assignments[: network.config.part_stage - 1]]
    value = network.pool.out(network.pool.project_tokens(part[None])[1].flatten(2))[0]
    attention = network.attention(part[None], texts[None])[0]
    small = torch.zeros(len(texts), *labels.shape)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            place = int(labels[y, x])
            for stage in members:
                place = int(stage[place])
            for number, text in enumerate(texts):
                tokens = {"value": value, "token": part}.get(way)
                if tokens is None:
                    small[number, y, x] = attention[number, place]
                else:
                    small[number, y, x] = tokens[place] @ text / tokens[place].norm() / text.norm()
    return torch.nn.functional.interpolate(small[None], size=size, mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize("way", MAPS)
@torch.no_grad()
def test_a_pixel_gets_the_class_that_its_segment_is_nearest_to(model, ade, way, monkeypatch):
    monkeypatch.setattr(segmentation, "_VALUES_AT_ONCE", 2 * 40 * 60)  # two classes at once
    network = model.network
    texts = class_queries(network, ade, 64)
    (features,) = encode_squashed(network, [ade.labelled[0].picture])
    expected = plain(network, features, texts, (40, 60), way)
    first, second = expected.topk(2, dim=0).values
    clear = (first - second > 1e-5).numpy()
    found = predict(network, features, texts, (40, 60), way)
    assert np.array_equal(found[clear], expected.argmax(0).numpy()[clear]) and clear.mean() > 0.9


def test_of_classes_alike_the_first_wins(model, ade, monkeypatch):
    monkeypatch.setattr(segmentation, "_VALUES_AT_ONCE", 1)
    (features,) = encode_squashed(model.network, [ade.labelled[0].picture])
    text = class_queries(model.network, ade, 64)[:1]
    assert not predict(model.network, features, text.expand(3, -1), (40, 60), "value").any()


def test_a_set_is_scored_by_every_map(model, ade):
    found = score_segmentation(model.network, ade, 1)
    texts = class_queries(model.network, ade, 64)
    encoded = list(encode_squashed(model.network, [image.picture for image in ade.labelled]))
    assert found["images"] == 2 and found["classes"] == 3 and list(found["segmentation"]) == list(MAPS)
    for way, scores in found["segmentation"].items():
        predicted = [predict(model.network, features, texts, (40, 60), way) for features in encoded]
        truth = [image.labels for image in ade.labelled]
        ours = tally(zip(predicted, truth, strict=True), 3)
        assert scores["miou"] == ours["miou"] and list(scores["iou"].values()) == ours["iou"]
        assert list(scores["iou"]) == ["wall", "building", "bed"]
        most = []
        for guess, right in zip(predicted, truth, strict=True):
            values, counts = np.unique(guess[right != IGNORED], return_counts=True)
            most.append(np.full_like(guess, values[counts.argmax()]))
        assert scores["miou_one_class"] == tally(zip(most, truth, strict=True), 3)["miou"]


def test_classes_of_one_name_have_keys_of_their_own(model, tmp_path):
    write_ade20k(tmp_path)
    table = tmp_path / "ADEChallengeData2016/objectInfo150.txt"
    table.write_text(table.read_text().replace("building, edifice", "wall"))
    found = score_segmentation(model.network, load_segmentation(spec(tmp_path, "ade20k", prompts=("a {name}.",))), 2)
    assert list(found["segmentation"]["value"]["iou"]) == ["wall", "wall (2)", "bed"]


def test_annotations_of_the_upright_picture_are_scored_upright(model, tmp_path):
    write_voc(tmp_path)
    path = tmp_path / "VOCdevkit/VOC2012/JPEGImages/2007_000033.jpg"
    with Image.open(path) as image:
        turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by a quarter clockwise
    turned.save(path, exif=exif)
    found = load_segmentation(spec(tmp_path, "voc"))
    assert found.left_out.turned == 1 and found.labelled[1].picture.size == (60, 40)
