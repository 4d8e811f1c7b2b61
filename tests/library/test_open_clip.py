"""The adapter in open_clip's own code: its zero-shot evaluation, its evaluation in training and its transform."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from caft.adapters.open_clip import create_model_and_transforms, get_tokenizer
from caft.data.sets import ZeroShotSet, load_retrieval
from caft.eval.scores.retrieval_sets import score_retrieval
from caft.eval.scores.zero_shot import class_features, prompts, score_zero_shot
from caft.weights.files import save_model
from tests.peers import peer

CLASSES = ["tench", "great white shark", "Pomeranian", "stone wall", "red fox", "barn", "ox"]


@pytest.fixture
def adapted(model_file):
    model, _, transform = create_model_and_transforms(model_file, output_dict=True)
    return model, transform, get_tokenizer(model_file)


def arguments(precision):
    return SimpleNamespace(
        device="cpu", precision=precision, batch_size=4, rank=0, distributed=False, horovod=False, zeroshot_frequency=1,
        epochs=1, val_frequency=1, save_logs=False, wandb=False,
    )  # fmt: skip


def accuracy(output, target, topk=(1,)):
    """open_clip_train.zero_shot.accuracy, which fails with numpy 2.4 (findings/open_clip_accuracy_numpy.sh)."""
    correct = output.topk(max(topk), 1, True, True)[1].t().eq(target.view(1, -1))
    return [float(correct[:k].sum()) for k in topk]


@pytest.fixture
def classified(pictures):
    return ZeroShotSet(
        classes=CLASSES, images=[*pictures, *pictures], labels=[0, 1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1], expected=None
    )


@pytest.mark.slow
def test_its_zero_shot_evaluation_classifies_as_the_stage_does(model, classified, tmp_path, monkeypatch):
    zero_shot, open_clip = peer("open_clip_train.zero_shot"), peer("open_clip")
    # A card whose splitter leaves "a photo of a tench." whole, as the stage does; DreamLIP's drops the full stop.
    save_model(model.network, tmp_path / "model.safetensors", model.card.model_copy(update={"splitter": "spacy"}))
    adapter, _, transform = create_model_and_transforms(tmp_path / "model.safetensors")
    tokenizer = get_tokenizer(tmp_path / "model.safetensors")
    monkeypatch.setattr(zero_shot, "IMAGENET_CLASSNAMES", CLASSES)
    monkeypatch.setattr(zero_shot, "accuracy", accuracy)
    rows = [
        (transform(Image.open(path)), label) for path, label in zip(classified.images, classified.labels, strict=True)
    ]
    data = {"imagenet-val": SimpleNamespace(dataloader=DataLoader(rows, batch_size=5))}
    found = zero_shot.zero_shot_eval(adapter, data, 1, arguments("fp32"), tokenizer)
    ours = score_zero_shot(model, classified, 64)
    assert 100 * found["imagenet-zeroshot-val-top1"] == pytest.approx(ours["top1"])
    assert 100 * found["imagenet-zeroshot-val-top5"] == pytest.approx(ours["top5"])
    assert 0 < ours["top5"] < 100
    templates = open_clip.OPENAI_IMAGENET_TEMPLATES
    assert sorted(template("fox") for template in templates) == sorted(prompts("fox"))
    theirs = open_clip.build_zero_shot_classifier(adapter, tokenizer, CLASSES[:2], templates)
    torch.testing.assert_close(theirs.T, class_features(model, CLASSES[:2], 64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])  # of the pictures that it gives; weights stay
def test_its_evaluation_in_training_recalls_what_the_stage_does(
    adapted, model, small, monkeypatch, tmp_path, precision
):
    data, train = peer("open_clip_train.data"), peer("open_clip_train.train")
    params, folder = small
    monkeypatch.chdir(folder)
    benchmark = load_retrieval(params.benchmarks["random"])
    entry, _ = score_retrieval(model, benchmark, params.evaluation)
    assert entry["tied_rows"] == 0
    adapter, transform, tokenizer = adapted
    table = pd.DataFrame({"filepath": [folder / path for path in benchmark.images], "title": benchmark.captions})
    table.to_csv(tmp_path / "pairs.csv", sep="\t", index=False)
    pairs = data.CsvDataset(tmp_path / "pairs.csv", transform, "filepath", "title", tokenizer=tokenizer)
    loader = DataLoader(pairs, batch_size=5)
    loader.num_samples = len(pairs)
    found = train.evaluate(adapter, {"val": SimpleNamespace(dataloader=loader)}, 1, arguments(precision))
    for k in (1, 5, 10):
        assert 100 * found[f"image_to_text_R@{k}"] == pytest.approx(entry["whole"][f"i2t_r{k}"])
        assert 100 * found[f"text_to_image_R@{k}"] == pytest.approx(entry["whole"][f"t2i_r{k}"])
    assert found["num_samples"] == 16


def test_its_own_transform_is_understood(adapted, model, pictures):
    transform_of = peer("open_clip").image_transform
    adapter, transform, _ = adapted
    theirs = transform_of(64, is_train=False)
    images = torch.stack([theirs(Image.open(path)) for path in pictures])
    assert images.min() < -1 and images.dtype == torch.float32
    # The middle of the same resized picture, level for level, so the features are the same to the bit.
    ours = torch.stack([transform(path) for path in pictures])
    assert adapter.encode_image(images).equal(adapter.encode_image(ours))
    assert adapter.encode_image(images.half()).equal(adapter.encode_image(ours))
    for mean, std in (((0.5,) * 3, (0.5,) * 3), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))):
        other = torch.stack([transform_of(64, is_train=False, mean=mean, std=std)(Image.open(p)) for p in pictures])
        with pytest.raises(
            ValueError, match="or as open_clip's transform with its default mean and std, float32; found"
        ):
            adapter.encode_image(other)
