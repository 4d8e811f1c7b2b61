"""The recipes of params.yaml, and what the code does with them, against the paper's table and the authors' scripts."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caft import CAFT
from caft.captions.chunking import balanced_chunks, random_chunks
from caft.data.training.batch import Sampling, sample_sub_captions
from caft.params import Params, flat, load_params
from caft.params.models import ModelParams
from caft.train.task import TrainingTask
from pipelines.params import compare

PROJECT = Path(__file__).parents[1]
PARAMS = load_params(PROJECT / "params.yaml")
PAPER, RELEASE, SMOKE = (PARAMS.recipes[name] for name in ("paper", "release", "smoke"))
BASE, TINY = PARAMS.models["base"], PARAMS.models["tiny"]
MERGED = ("cc3m", "cc12m", "yfcc15m")

# Table 7 of the paper, and what the authors' scripts say of the same: lr, eps, weight decay, clip norm.
TABLE_7 = {
    ("cc3m",): (5e-4, 1e-8, 0.5, None),
    ("cc12m",): (5e-4, 1e-8, 0.5, None),
    ("yfcc15m",): (5e-4, 1e-8, 0.5, None),
    MERGED: (5e-4, 1e-6, 0.2, None),
}
SCRIPTS = {
    ("cc3m",): (5e-4, 1e-8, 0.5, None),
    ("cc12m",): (5e-4, 1e-8, 0.5, 1.0),
    ("yfcc15m",): (1.67e-4, 1e-6, 0.5, 1.0),
    MERGED: (5e-4, 1e-6, 0.2, None),
}


# All of a recipe in the sheets' words: Tables 5 and 7 and Secs. 3.2, 3.3, 4.1 and B.2 of the paper, and FLAIR's scripts.
PAPER_VALUES = {
    "batch": 2048,
    "epochs": 32,
    "epoch_images": None,
    "samples": None,
    "learning_rate": 5e-4,
    "betas": (0.9, 0.98),
    "eps": 1e-8,
    "weight_decay": 0.5,
    "warmup_steps": 2000,
    "schedule": "cosine",
    "cooldown": 0.0,
    "freeze": (),
    "layer_decay": None,
    "clip_norm": None,
    "weights_ema": None,
    "precision": "bf16",
    "loss.part": 1.0,
    "loss.part_cls": 0.0,
    "loss.whole": 1.0,
    "loss.form": "sigmoid",
    "negatives": "sampled",
    "scale_start": 1 / 0.07,
    "bias_start": -10.0,
    "part_scale_max": 100.0,
    "whole_scale_max": 100.0,
    "splitter": "dreamlip",
    "captions": "caft",
    "sub_captions": 8,
    "chunks": 4,
    "max_sentences": 3,
    "random_rule": "paper",
    "balanced_rule": "paper",
    "crop_scale": (0.9, 1.0),
    "validation_images": 1000,
    "validate_every": 1000,
    "checkpoint_every": 1000,
}
# What the authors' code does otherwise: half precision with a scaler, a third term, exp(4) as the whole's cap, and
# from thirteen sentences on 3, 3, 3 and the rest.
RELEASE_VALUES = PAPER_VALUES | {
    "precision": "fp16",
    "loss.part_cls": 1.0,
    "whole_scale_max": math.exp(4),
    "random_rule": "release",
    "balanced_rule": "release",
}


def selecting(tmp_path: Path, text: str) -> Params:
    path = tmp_path / "overlay.yaml"
    path.write_text(text)
    return load_params(PROJECT / "params.yaml", [path])


# ---- the numbers of the optimizer


@pytest.mark.parametrize(("recipe", "table"), [("paper", TABLE_7), ("release", SCRIPTS)])
def test_a_recipe_has_its_numbers_on_every_corpus(recipe: str, table: dict[Any, Any], tmp_path: Path) -> None:
    for corpora, expected in table.items():
        for order in (corpora, corpora[::-1]):
            text = f"{{corpora: [{', '.join(order)}], recipe: {recipe}, model: base, launch: a100x8}}"
            found = selecting(tmp_path, text).selected_recipe
            assert (found.learning_rate, found.eps, found.weight_decay, found.clip_norm) == expected, order
            assert (found.batch, found.epochs, found.samples) == (2048, 32, None)
            assert (found.betas, found.warmup_steps) == ((0.9, 0.98), 2000)
            assert not found.per_corpora


@pytest.mark.parametrize(("recipe", "values"), [(PAPER, PAPER_VALUES), (RELEASE, RELEASE_VALUES)])
def test_a_recipe_has_every_value_of_the_sheets(recipe: Any, values: dict[str, Any]) -> None:
    found = dict(flat(recipe.model_dump()))
    assert found.keys() == values.keys()
    for key, value in values.items():
        assert found[key] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value), key


def test_the_merged_corpora_count_as_27_million_in_the_release_alone() -> None:
    images = 2_823_423 + 10_012_845 + 14_066_050
    assert images == 26_902_318
    assert PAPER.for_corpora(MERGED).steps(images) == 32 * images // 2048
    assert RELEASE.for_corpora(MERGED).steps(images) == 32 * 27_000_000 // 2048
    assert RELEASE.for_corpora(["cc3m"]).steps(2_823_423) == 32 * 2_823_423 // 2048


def test_other_selections_and_the_rendered_corpus_keep_the_recipe() -> None:
    for corpora in (["scenes"], ["cc3m", "cc12m"], ["cc12m", "yfcc15m"]):
        for recipe in (PAPER, RELEASE):
            assert recipe.for_corpora(corpora) == recipe.model_copy(update={"per_corpora": {}})
    assert SMOKE.for_corpora(["scenes"]) == SMOKE


def test_an_override_wins_over_the_corpora_and_origins_tell(tmp_path: Path) -> None:
    params = selecting(
        tmp_path,
        "{corpora: [yfcc15m], recipe: release, launch: a100x8, train: {clip_norm: 3.0}, "
        "recipes: {release: {per_corpora: {yfcc15m: {weight_decay: 0.1}}}}}",
    )
    table, overlay = params.effective(), tmp_path / "overlay.yaml"
    assert table["train.clip_norm"] == (3.0, f"override train.clip_norm ({overlay})")
    assert table["train.learning_rate"] == (1.67e-4, "recipes.release.per_corpora.yfcc15m")
    assert table["train.weight_decay"] == (0.1, f"recipes.release.per_corpora.yfcc15m ({overlay})")
    assert table["train.warmup_steps"] == (2000, "recipes.paper")
    assert table["train.precision"] == ("fp16", "recipes.release")
    assert not any("per_corpora" in key for key in table)


def test_the_printed_difference_is_every_difference_known() -> None:
    assert compare(PARAMS, "paper", "release") == [
        ("key", "paper", "release"),
        ("precision", "bf16", "fp16"),
        ("loss.part_cls", "0.0", "1.0"),
        ("whole_scale_max", "100.0", "54.598150033144236"),
        ("random_rule", "paper", "release"),
        ("balanced_rule", "paper", "release"),
        ("clip_norm on cc12m", "null", "1.0"),
        ("learning_rate on yfcc15m", "0.0005", "0.000167"),
        ("eps on yfcc15m", "1e-08", "1e-06"),
        ("clip_norm on yfcc15m", "null", "1.0"),
        ("epoch_images on cc3m+cc12m+yfcc15m", "null", "27000000"),
    ]


def test_a_difference_that_corpora_take_back_is_printed(tmp_path: Path) -> None:
    params = selecting(
        tmp_path, "recipes: {release: {clip_norm: 1.0}, paper: {per_corpora: {cc12m: {clip_norm: 1.0}}}}"
    )
    rows = compare(params, "paper", "release")
    assert ("clip_norm", "null", "1.0") in rows and ("clip_norm on cc12m", "1.0", "1.0") in rows


# ---- loss terms, negatives, temperatures


@pytest.mark.parametrize(("recipe", "terms"), [(PAPER, {"part", "whole"}), (RELEASE, {"part", "part_cls", "whole"})])
@torch.no_grad()
def test_terms_and_normalisers_by_hand_where_all_cosines_are_zero(recipe: Any, terms: set[str]) -> None:
    images, texts = 3, recipe.sub_captions
    model = CAFT(TINY, recipe.chunks, recipe.scale_start, recipe.bias_start)
    model.part_projection.weight.zero_()
    model.whole_projection.weight.zero_()
    tokens = torch.zeros(images, texts, 77, dtype=torch.long)
    tokens[..., 0], tokens[..., 1], tokens[..., 2] = 49406, 320, 49407
    pixels = torch.randint(256, (images, 3, 64, 64), dtype=torch.uint8)
    found = TrainingTask(model, recipe, 0)(pixels, model.superpixel_labels(pixels), tokens, 0)
    assert set(found) == {*terms, "loss", "clamped_pairs"}
    positive, negative = math.log1p(math.exp(10)), math.log1p(math.exp(-10))
    # Every image has its K texts and one of each other image; the sum is over Z = B + K - 1.
    part = (images * texts * positive + images * (images - 1) * negative) / (images + texts - 1)
    assert float(found["part"]) == pytest.approx(part, rel=1e-5)
    each = positive + (images - 1) * negative
    assert float(found["whole"]) == pytest.approx(each, rel=1e-5)
    if "part_cls" in terms:
        assert float(found["part_cls"]) == pytest.approx(each, rel=1e-5)
    assert float(found["loss"]) == pytest.approx(part + (len(terms) - 1) * each, rel=1e-5)


def test_scales_start_at_one_over_007_and_are_capped_as_the_recipe_says() -> None:
    for recipe, whole_cap in ((PAPER, math.log(100)), (RELEASE, 4.0), (SMOKE, math.log(100))):
        assert (recipe.scale_start, recipe.bias_start) == (pytest.approx(1 / 0.07), -10.0)
        model = CAFT(TINY, recipe.chunks, recipe.scale_start, recipe.bias_start)
        scales = (model.part_log_scale, model.whole_log_scale)
        assert scales[0] is not scales[1] and model.part_bias is not model.whole_bias
        assert [float(scale.detach()) for scale in scales] == pytest.approx([math.log(1 / 0.07)] * 2)
        task = TrainingTask(model, recipe, 0)
        for start, ends in ((9.0, (math.log(100), whole_cap)), (-1.0, (0.0, 0.0))):
            for scale in scales:
                scale.data.fill_(start)
            task.clamp_scales()
            assert [float(scale.detach()) for scale in scales] == pytest.approx(ends)


def test_negatives_are_flairs_and_every_pair_is_a_setting() -> None:
    assert {recipe.negatives for recipe in (PAPER, RELEASE, SMOKE)} == {"sampled"}
    assert PARAMS.train.negatives is None


# ---- captions


def test_eight_sub_captions_of_which_four_are_one_long_caption() -> None:
    for recipe in (PAPER, RELEASE, SMOKE):
        assert (recipe.sub_captions, recipe.chunks, recipe.max_sentences) == (8, 4, 3)
    sentences = [1, 2, 7, 2, 7, 2, 2]  # the third and the fifth field are long captions of enough sentences
    sampling = Sampling(PAPER.sub_captions, PAPER.chunks, PAPER.max_sentences, PAPER.random_rule)
    drawn = sample_sub_captions(sentences, np.random.default_rng(0), sampling)
    (field,) = {pair[0] for group in drawn[:4] for pair in group}
    assert [pair[1] for group in drawn[:4] for pair in group] == list(range(7))
    assert len(drawn) == 8 and all(pair[0] != field for group in drawn[4:] for pair in group)


@pytest.mark.parametrize(
    ("recipe", "in_training", "in_evaluation"),
    [(PAPER, (3, 3, 3, 3), (5, 4, 4, 4)), (RELEASE, (3, 3, 3, 8), (3, 3, 3, 8))],
)
def test_a_caption_of_17_sentences(recipe: Any, in_training: tuple[int, ...], in_evaluation: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    drawn = random_chunks(17, recipe.chunks, rng, recipe.max_sentences, recipe.random_rule)
    assert tuple(map(len, drawn)) == in_training
    assert [i for group in drawn for i in group] == list(range(sum(in_training)))
    sampling = Sampling(recipe.sub_captions, recipe.chunks, recipe.max_sentences, recipe.random_rule)
    sampled = sample_sub_captions([1, 0, 17, 0, 0, 0, 0], rng, sampling)
    assert tuple(map(len, sampled[:4])) == in_training
    assert tuple(map(len, balanced_chunks(17, recipe.chunks, recipe.balanced_rule))) == in_evaluation


def test_up_to_twelve_sentences_the_rules_are_one() -> None:
    for count in range(1, 13):
        both = [random_chunks(count, 4, np.random.default_rng(count), 3, rule) for rule in ("paper", "release")]
        assert both[0] == both[1]
        assert balanced_chunks(count, 4, "paper") == balanced_chunks(count, 4, "release")


def test_splitters_crops_and_scores() -> None:
    assert [recipe.splitter for recipe in (PAPER, RELEASE, SMOKE)] == ["dreamlip", "dreamlip", "spacy"]
    assert PAPER.crop_scale == RELEASE.crop_scale == (0.9, 1.0)
    assert 0.3 in PARAMS.evaluation.blend and PARAMS.evaluation.blend_space == "logit"


# ---- the model


def test_base_is_the_papers_model() -> None:
    with torch.device("meta"):
        model = CAFT(BASE)
    assert [layer.stride for layer in model.vision.stem.layers if hasattr(layer, "stride")] == [
        (2, 2), (2, 2), (2, 2), (1, 1), (1, 1)
    ]  # fmt: skip
    assert model.vision.tokens == (196, 64, 32, 16) and [len(stage) for stage in model.vision.stages] == [3, 3, 3, 2]
    assert [pool.groups for pool in model.vision.pools] == [64, 32, 16]  # type: ignore[union-attr]
    assert BASE.tokens[BASE.part_stage - 1] == 64
    assert model.part_norm is not model.whole_norm and model.part_norm.eps == model.whole_norm.eps == 1e-6
    projections = ("part_projection", "whole_projection", "sub_caption_projection", "whole_caption_projection")
    for name in projections:
        projection = model.get_submodule(name)
        assert isinstance(projection, torch.nn.Linear) and projection.bias is None
        assert (projection.in_features, projection.out_features) == (768 if "caption" not in name else 512, 512)
    for transformer, layers in ((model.sub_caption, 8), (model.whole_caption, 4)):
        assert len(transformer.blocks) == layers
        attentions = [block.attn for block in transformer.blocks]
        assert {(a.heads, a.causal, a.qkv.in_features) for a in attentions} == {(8, True, 512)}
    assert model.whole_caption.positions.shape == (5, 512)
    assert (model.whole_caption.adapter.fc1.in_features, model.whole_caption.adapter.fc1.out_features) == (512, 341)
    assert model.pool.heads == 8


@torch.no_grad()
def test_a_whole_caption_hears_every_chunk_and_its_class_token_stands_last() -> None:
    torch.manual_seed(0)
    model = CAFT(TINY, chunks=4).whole_caption
    assert torch.equal(model.gamma, torch.full((64,), 1e-3))
    features = torch.randn(1, 4, 64)
    before = model(features)
    for chunk in range(4):
        changed = features.clone()
        changed[:, chunk] += 1
        assert not torch.allclose(model(changed), before)
    seen = []
    model.blocks.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    model(features)
    assert torch.equal(seen[0][:, -1], model.cls[:, 0] + model.positions[-1])


@torch.no_grad()
def test_superpixels_stay_frozen_in_evaluation_mode_and_in_float32() -> None:
    model = CAFT(TINY).train()
    assert not any(module.training for module in model.superpixels.modules())
    assert not any(parameter.requires_grad for parameter in model.superpixels.parameters())
    kinds = []
    model.superpixels.pred_mask0.register_forward_hook(lambda module, inputs, output: kinds.append(output.dtype))
    pixels = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = model.superpixel_labels(pixels)
    assert kinds == [torch.float32] and torch.equal(inside, model.superpixel_labels(pixels))


# ---- the embedded default


def differing(one: Any, other: Any) -> set[str]:
    left, right = (dict(flat(section.model_dump())) for section in (one, other))
    return {key for key in left if left[key] != right[key]}


def test_tiny_differs_from_base_in_its_sizes_and_in_the_start_of_its_pooling() -> None:
    tiny: ModelParams = TINY
    assert set(dict(flat(BASE.model_dump()))) - differing(BASE, tiny) == {
        "levels", "part_stage", "patch", "pool_dropout", "text.context", "text.vocabulary"
    }  # fmt: skip
    assert (BASE.grounding.start, tiny.grounding.start) == ("default", "identity")


def test_smoke_differs_from_paper_in_its_budget_and_in_what_two_cores_need() -> None:
    budget = {"batch", "epochs", "samples", "learning_rate", "weight_decay", "warmup_steps", "clip_norm"}
    assert differing(PAPER, SMOKE) == budget | {
        "splitter", "precision", "crop_scale", "validation_images", "validate_every", "checkpoint_every"
    }  # fmt: skip
