"""The rows of Table 3 and the baselines: each is built, trained, stored, scored, and differs where the paper says."""

import json
import logging
from collections import Counter
from fractions import Fraction
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.filters import threshold_otsu
from torch import Tensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from caft.captions.tokenizer import tokenize
from caft.data.sets import Expression, ReferringImage, ReferringSet, RetrievalSet
from caft.data.training.batch import Sampling, sample_sub_captions
from caft.data.training.index import build_index
from caft.errors import ParamsError
from caft.eval.scores.referring import score_expressions
from caft.eval.scores.regions import box_weights
from caft.eval.scores.retrieval_sets import score_retrieval as score
from caft.loss.exchange import Exchange
from caft.loss.hierarchical import Features, Temperature, hierarchical_loss
from caft.loss.part import PartTerm
from caft.loss.whole import PartClsTerm, WholeTerm
from caft.model.card import ModelCard
from caft.model.encoding import encode_captions, encode_cropped, encode_sub_captions
from caft.model.maps import attention_maps
from caft.model.model import Model
from caft.model.scores import part_scores, whole_scores
from caft.network.caft import CAFT
from caft.network.vision.superpixels import SFCN
from caft.params import Params, flat, load_params
from caft.train.job import TrainJob
from caft.train.task import TrainingTask
from caft.transforms import center_crop, open_image, squash
from caft.weights.files import save_model
from caft.weights.load import load
from tests.data.test_index import _corpus
from tests.loss.test_golden import pooling
from tests.ranks import run_ranks
from tests.reference.golden import Arrays as golden

PROJECT = Path(__file__).parents[1]
TABLE_3 = ("flair", "visual_hierarchy", "textual_hierarchy", "hierarchical_loss", "no_part")
ROWS = (*TABLE_3, "siglip", "softmax")
SIZES = {"tiny": "smoke", "base": "paper"}
IMAGES = 6
PART_LESS = ("no_part", "siglip")
FLAT = ("flair", "siglip")


def settings(row: str, size: str = "tiny", more: str = "") -> Params:
    """Settings of a row; `more` is another overlay's file."""
    overlays = [PROJECT / f"pipelines/ablation/{row}.yaml", *([more] if more else [])]
    if size == "base":
        overlays.append(PROJECT / "tests/base.yaml")
    return load_params(PROJECT / "params.yaml", overlays)


def built(row: str) -> tuple[CAFT, Params]:
    params = settings(row)
    recipe = params.selected_recipe
    torch.manual_seed(0)
    return CAFT(params.selected_model, recipe.chunks, recipe.scale_start, recipe.bias_start), params


def fixed_batch(params: Params) -> tuple[Tensor, Tensor]:
    """Images of a few flat rectangles, and texts of K captions each that name nothing twice."""
    rng = np.random.default_rng(0)
    images = np.zeros((IMAGES, 3, 64, 64), np.uint8)
    for image in images:
        image[:] = rng.integers(0, 255, 3)[:, None, None]
        for _ in range(4):
            y, x = rng.integers(0, 40, 2)
            image[:, y : y + 20, x : x + 20] = rng.integers(0, 255, 3)[:, None, None]
    words = ["cat", "dog", "bus", "tree", "star", "moon"]
    texts = [f"a {word} number {k}" for word in words for k in range(params.selected_recipe.sub_captions)]
    return torch.from_numpy(images), tokenize(texts).unflatten(0, (IMAGES, -1))


# ---- settings


@pytest.mark.parametrize("size", SIZES)
def test_neighbours_differ_exactly_where_the_paper_says(size: str) -> None:
    def of(row: str) -> dict[str, Any]:
        params = settings(row, size)
        assert (params.model, params.recipe) == (size, SIZES[size])
        model, recipe = (part.model_dump() for part in (params.selected_model, params.selected_recipe))
        return {f"model.{k}": v for k, v in flat(model)} | {f"recipe.{k}": v for k, v in flat(recipe)}

    def changes(first: str, second: str) -> set[str]:
        """Parts of the settings that differ, the inside of a part that one of them lacks taken as a whole."""
        one, other = of(first), of(second)
        keys = {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}
        whole = ("model.superpixels", "model.stem", "model.grounding")
        return {next((part for part in whole if key.startswith(part)), key) for key in keys}

    image_tower = {f"model.{key}" for key in ("patch", "superpixels", "stem", "pool_dropout", "tokens", "blocks")}
    text_tower = {f"model.text.{key}" for key in ("sub_layers", "whole_layers", "adapter")}
    own_sampling = {"recipe.captions", "recipe.chunks"}
    # The last stage has another number in a tower of one stage.
    assert changes("flair", "visual_hierarchy") == image_tower | {"model.part_stage"}
    # A whole caption needs the chunks of one long caption, and is what the class token is compared with.
    new_comparison = {"recipe.loss.part_cls", "recipe.loss.whole"}
    assert changes("visual_hierarchy", "textual_hierarchy") == text_tower | own_sampling | new_comparison
    both_weights = {"recipe.loss.part", "recipe.loss.whole"}  # from an average to a sum
    assert changes("textual_hierarchy", "hierarchical_loss") == {"model.part_stage", "model.levels"} | both_weights
    assert changes("hierarchical_loss", "no_part") == {"model.grounding", "recipe.loss.part"}
    assert changes("hierarchical_loss", "softmax") == {"recipe.loss.form", "recipe.bias_start"}
    one_term = {f"recipe.loss.{term}" for term in ("part", "part_cls", "whole")}
    assert changes("flair", "siglip") == {"model.grounding", "model.levels", "recipe.sub_captions"} | one_term
    plain = load_params(PROJECT / "params.yaml")
    assert of("hierarchical_loss") == {
        f"{kind}.{key}": value
        for kind, part in (("model", plain.models[size]), ("recipe", plain.recipes[SIZES[size]]))
        for key, value in flat(part.model_dump())
    }


@pytest.mark.parametrize(
    ("row", "change", "line"),
    [
        # the structure of a model
        (
            "flair",
            "models: {tiny: {stem: {channels: [8], strides: [2]}}}",
            "models.tiny.stem = given: must be null whe",
        ),
        ("flair", "models: {tiny: {patch: null}}", "models.tiny.superpixels = null: must be given; or give patch"),
        ("flair", "models: {tiny: {patch: 10}}", "models.tiny.image_size = 64: must be a multiple of patch (10); near"),
        (
            "flair",
            "models: {tiny: {patch: 16}}",
            "models.tiny.tokens = [64]: must start with the patches of an image, 1",
        ),
        (
            "flair",
            "models: {tiny: {tokens: [64, 9]}}",
            "models.tiny.tokens = [64, 9]: must be one number where patch i",
        ),
        (
            "flair",
            "models: {tiny: {levels: separate}}",
            "models.tiny.levels = separate: must be shared where text.whol",
        ),
        ("flair", "models: {tiny: {grounding: null}}", "models.tiny.levels = shared: must be separate where grounding"),
        (
            "flair",
            "models: {tiny: {text: {adapter: 4}}}",
            "models.tiny.text.whole_layers = null: give it with text.ada",
        ),
        (
            "textual_hierarchy",
            "models: {tiny: {part_stage: 2}}",
            "models.tiny.levels = shared: needs part_stage 4, the la",
        ),
        # a recipe
        (
            "softmax",
            "recipes: {smoke: {bias_start: -10.0}}",
            "recipes.smoke.bias_start = -10.0: must be 0 where loss.f",
        ),
        ("flair", "recipes: {smoke: {chunks: 4}}", "recipes.smoke.chunks = 4: must be 1 where captions is flair"),
        # both together
        (
            "no_part",
            "recipes: {smoke: {loss: {part: 1.0}}}",
            "recipes.smoke.loss.part = 1.0: must be 0: models.tiny has n",
        ),
        (
            "siglip",
            "recipes: {smoke: {loss: {whole: 0.0, part: 1.0}}}",
            "recipes.smoke.loss.whole = 0.0: must be above 0, ",
        ),
        (
            "flair",
            "recipes: {smoke: {loss: {whole: 1.0}}}",
            "recipes.smoke.loss.whole = 1.0: must be 0: models.tiny has ",
        ),
        (
            "flair",
            "recipes: {smoke: {loss: {part_cls: 0.0}}}",
            "recipes.smoke.loss.part_cls = 0.0: must be above 0, for",
        ),
        (
            "softmax",
            "recipes: {smoke: {loss: {part: 0.0}}}",
            "recipes.smoke.loss.part = 0.0: must be above 0: models.ti",
        ),
        (
            "flair",
            "recipes: {smoke: {captions: caft, chunks: 4}}",
            "recipes.smoke.chunks = 4: must be 1: models.tiny take",
        ),
        (
            "softmax",
            "recipes: {smoke: {captions: flair, chunks: 1}}",
            "recipes.smoke.captions = flair: must be caft: models.tiny ",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(row: str, change: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "change.yaml").write_text(change)
    with pytest.raises(ParamsError) as raised:
        settings(row, more=str(tmp_path / "change.yaml"))
    assert any(found.strip().startswith(line) for found in str(raised.value).splitlines()), raised.value


# ---- structure


@pytest.mark.parametrize("row", ROWS)
def test_the_base_size_is_built_and_of_the_papers_scale(row: str) -> None:
    params = settings(row, "base")
    with torch.device("meta"):
        model = CAFT(params.selected_model, params.selected_recipe.chunks)
    trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    text = sum(count for name, count in trained.items() if name.startswith(("sub_caption.", "whole_caption.")))
    # open_clip's text tower of twelve layers, without its projection: 63,165,952. CAFT's whole captions add adapter,
    # class token, five positions and a norm.
    layers, tokens, norm = 12 * 3_152_384, (49_408 + 77) * 512, 2 * 512
    added = 0 if params.selected_model.is_flat_text else (512 * 341 * 2 + 341 + 512) + 512 + 512 + 5 * 512 + norm
    assert text == layers + tokens + norm + added
    image = sum(count for name, count in trained.items() if name.startswith("vision."))
    assert (image == 85_799_424 - 2 * 768) == (row in FLAT)  # ViT-B/16; its last norm is part_norm or whole_norm


@pytest.mark.parametrize("row", ROWS)
def test_a_model_has_what_its_row_needs_and_no_more(row: str) -> None:
    model, _ = built(row)
    parts = {name.split(".")[0] for name in model.state_dict()}
    part = {"part_norm", "part_projection", "sub_caption_projection", "pool", "part_log_scale", "part_bias"}
    whole = {"whole_norm", "whole_projection", "whole_log_scale", "whole_bias"}
    expected = {
        "flair": part,
        "visual_hierarchy": part | {"superpixels"},
        "textual_hierarchy": part | {"superpixels", "whole_caption", "whole_caption_projection"},
        "no_part": whole | {"superpixels", "whole_caption", "whole_caption_projection"},
        "siglip": whole | {"whole_caption_projection"},
    }.get(row, part | whole | {"superpixels", "whole_caption", "whole_caption_projection"})
    assert parts == expected | {"vision", "sub_caption"}


# ---- training


@pytest.mark.parametrize("row", ROWS)
def test_a_few_steps_lower_the_loss_of_a_fixed_batch_and_reach_every_weight(row: str) -> None:
    model, params = built(row)
    task = TrainingTask(model, params.selected_recipe, seed=0)
    images, tokens = fixed_batch(params)
    labels = model.superpixel_labels(images)
    trained = {name: p for name, p in task.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=2e-3)
    losses = []
    for _ in range(60):  # the softmax variant, without a bias to move first, takes the longest
        terms = task(images, labels, tokens, 0)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        task.clamp_scales()
        losses.append(terms["loss"].item())
        if losses[-1] < 0.8 * losses[0]:
            break
    assert losses[-1] < 0.8 * losses[0], losses
    assert [name for name, p in trained.items() if p.grad is None] == []
    # Exactly zero in theory: the grouping is centred, which takes away a bias.
    still = [name for name, p in trained.items() if not p.grad.any() and not name.endswith("attn.proj.bias")]
    assert still == []
    assert set(terms) - {"clamped_pairs"} == {"loss"} | {
        name for name, weight in params.selected_recipe.loss.weights.items() if weight
    }
    assert [name for name in ("part_bias", "whole_bias") if f"model.{name}" in trained] == (
        [] if row == "softmax" else [f"{level}_bias" for level in model.temperatures]
    )


def train_each_row(rank: int, world_size: int, folder: Path) -> None:
    """Two steps of each row; DDP refuses the second if a weight had no gradient in the first."""
    losses = {}
    for row in ROWS:
        model, params = built(row)
        images, tokens = (part.chunk(world_size)[rank] for part in fixed_batch(params))
        wrapped = DistributedDataParallel(TrainingTask(model, params.selected_recipe, seed=0))
        for step in range(2):
            loss = wrapped(images, model.superpixel_labels(images), tokens, step)["loss"]
            loss.backward()
        losses[row] = loss.item()
    if rank == 0:
        (folder / "losses.json").write_text(json.dumps(losses))


def test_every_row_trains_over_two_ranks(tmp_path: Path) -> None:
    run_ranks(train_each_row, tmp_path, 2)
    losses = json.loads((tmp_path / "losses.json").read_text())
    assert set(losses) == set(ROWS) and all(np.isfinite(loss) for loss in losses.values())


def test_flairs_loss_is_the_average_of_its_two_terms_with_one_temperature() -> None:
    arrays = golden("flair_tcs_loss_K3_tcs")
    text, cls = arrays["text"], arrays["image_global"]
    recipe = settings("flair").selected_recipe
    scale = torch.tensor(recipe.scale_start, dtype=text.dtype)
    bias = torch.tensor(recipe.bias_start, dtype=text.dtype)
    temperature, index = Temperature(scale, bias), arrays["sub_index"].long()
    assert recipe.negatives == "sampled"
    part = PartTerm(recipe.loss.part, temperature, "sigmoid", pooling(arrays), lambda *_: index)
    class_token = PartClsTerm(recipe.loss.part_cls, temperature, "sigmoid")
    features = Features(part=arrays["image_tokens"], part_cls=Exchange(cls, False), sub_captions=Exchange(text))
    terms = hierarchical_loss([part, class_token], features)
    torch.testing.assert_close(terms["part"], arrays["loss_tcs"].to(text.dtype).squeeze(), atol=1e-8, rtol=1e-5)
    multi = 0.0
    for i, image in enumerate(cls):
        for j, caption in enumerate(text):
            logit = scale * F.cosine_similarity(image, caption, dim=0) + bias
            multi += F.softplus(-logit if j // 3 == i else logit).item()
    assert terms["part_cls"].item() == pytest.approx(multi / 12, rel=1e-5)
    assert terms["loss"].item() == pytest.approx((arrays["loss_tcs"].item() + multi / 12) / 2, rel=1e-5)


@pytest.mark.parametrize("case", range(3))
def test_flairs_class_term_equals_the_original(case: int) -> None:
    arrays = golden("flair_sigmoid_loss")
    temperature = Temperature(arrays["log_logit_scale"][case].exp(), arrays["logit_bias"][case])
    image, sub_captions, captions = map(Exchange, (arrays["image"], arrays["text"], arrays["text"][::3]))
    terms = hierarchical_loss(
        [PartClsTerm(1.0, temperature, "sigmoid"), WholeTerm(1.0, temperature, "sigmoid")],
        Features(part_cls=image, whole=image, sub_captions=sub_captions, captions=captions),
    )
    torch.testing.assert_close(terms["part_cls"], arrays["mps"][case].to(torch.float64), atol=1e-10, rtol=1e-6)
    torch.testing.assert_close(terms["whole"], arrays["siglip"][case].to(torch.float64), atol=1e-10, rtol=1e-6)


@pytest.mark.parametrize("row", ["flair", "visual_hierarchy", "textual_hierarchy"])
def test_shared_levels_have_one_temperature_and_one_projection(row: str) -> None:
    model, _ = built(row)
    assert list(model.temperatures) == ["part"]
    with torch.no_grad():
        model.part_log_scale.fill_(1.5)
        model.part_bias.fill_(-2.0)
    assert model.whole_scale == model.part_scale == pytest.approx(np.exp(1.5))
    cls = torch.randn(3, model.config.width)
    assert torch.equal(model.project_whole(cls), model.project_part(cls))
    images, texts = F.normalize(torch.randn(3, 64)), F.normalize(torch.randn(2, 64))
    torch.testing.assert_close(whole_scores(model, images, texts), np.exp(1.5) * images @ texts.T - 2.0)


# ---- captions


def flair_probabilities(pool: list[Any]) -> dict[tuple[Any, ...], Fraction]:
    """Chance of each text by FLAIR's rule as its paper and code say it, every window counted, by enumeration."""
    chance: dict[tuple[Any, ...], Fraction] = Counter()
    for count in (1, 2, 3):
        windows = [tuple(pool[s : s + count]) for s in range(len(pool)) if s + count <= len(pool)] or [tuple(pool)]
        if count > len(pool):
            loose = [(a, *rest) for a in pool for rest in product_of(pool, count - 1)]
        else:
            loose = list(permutations(pool, count))
        share = Fraction(1, 3) * (1 if count == 1 else Fraction(1, 2))
        for text in loose:
            chance[text] += share / len(loose)
        for text in windows if count > 1 else ():
            chance[text] += share / len(windows)
    assert sum(chance.values()) == 1
    return chance


def product_of(pool: list[Any], count: int) -> list[tuple[Any, ...]]:
    return [()] if not count else [(a, *rest) for a in pool for rest in product_of(pool, count - 1)]


@pytest.mark.parametrize("num_sentences", [[1, 0, 2, 0, 0, 0, 1], [0, 2, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0]])
def test_flairs_sampling_follows_its_rule(num_sentences: list[int]) -> None:
    rng = np.random.default_rng(0)
    draws = 40_000
    sampling = Sampling(sub_captions=draws, chunks=1, captions="flair")
    found = Counter(map(tuple, sample_sub_captions(num_sentences, rng, sampling)))
    pool = [(field, s) for field, count in enumerate(num_sentences) for s in range(count)]
    expected = flair_probabilities(pool)
    assert found.keys() == expected.keys()  # the last window and windows across two captions among them
    for text, chance in expected.items():
        deviation = (draws * chance * (1 - chance)) ** 0.5
        assert abs(found[text] - draws * chance) <= 5 * deviation, text
    with pytest.raises(ValueError, match="without a sentence"):
        sample_sub_captions([0] * 7, rng, sampling)


# ---- storing and scoring


@pytest.mark.parametrize("row", ROWS)
def test_a_stored_model_scores_as_before(row: str, tmp_path: Path) -> None:
    model, params = built(row)
    chunks = params.selected_recipe.chunks
    card = ModelCard(model=model.config, chunks=chunks, splitter="dreamlip", balanced_rule="paper")
    save_model(model.eval(), tmp_path / "model.safetensors", card)
    again = load(tmp_path / "model.safetensors").network
    images, _ = fixed_batch(params)
    tokens = tokenize([f"a {k} b" for k in range(3 * chunks)]).unflatten(0, (3, chunks))
    scores = []
    for one in (model, again):
        features = one.image_features(images)
        whole, parts = one.text_features(tokens)
        scores.append([whole_scores(one, features.whole, whole)])
        if parts is not None:
            scores[-1].append(one.part_logits(features.part, parts.flatten(0, 1)))
    assert len(scores[0]) == len(scores[1]) == (1 if row in PART_LESS else 2)
    assert all(torch.equal(before, after) for before, after in zip(*scores, strict=True))


CAPTIONS = [
    "A red cat. It sits.",
    "One. Two. Three. Four. Five. Six.",
    "x" * 3 + " word" * 100 + ". Not seen",
    "Short.",
]


def retrieval_set(pictures: list[Path]) -> RetrievalSet:
    return RetrievalSet([str(n) for n in range(4)], pictures[:4], CAPTIONS)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    return paths


@pytest.mark.parametrize("row", ROWS)
def test_scores_that_a_model_cannot_give_are_null(row: str, pictures: list[Path]) -> None:
    model, params = built(row)
    recipe = params.selected_recipe
    card = ModelCard(splitter="dreamlip", chunks=recipe.chunks, balanced_rule=recipe.balanced_rule)
    entry, curve = score(Model(model.eval(), card), retrieval_set(pictures), params.evaluation)
    facts = {"pairs", "tied_rows", "chunks_cut", "tokens_seen"}
    assert set(entry) == facts | {"whole", "part", "blend_0.3", "blend_0.7"}
    assert entry["whole"]["i2t_r10"] == 100.0
    assert (entry["chunks_cut"] == 25.0) == (recipe.chunks == 1)
    for name in ("part", "blend_0.3", "blend_0.7"):
        assert (entry[name] is None) == (row in PART_LESS)
    assert len(curve) == (0 if row in PART_LESS else 22)


def test_flairs_score_is_that_of_the_whole_caption_as_one_text_of_77_tokens(
    pictures: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    model, _ = built("flair")
    card = ModelCard(splitter="dreamlip", chunks=1, balanced_rule="paper")
    with caplog.at_level(logging.WARNING):
        captions = encode_captions(Model(model.eval(), card), CAPTIONS, batch=3)
    assert "1 of 4 chunks are longer than 77 tokens and were cut" in caplog.text
    encoded = encode_cropped(model, pictures, batch=3)
    image_whole, image_part = encoded.whole, encoded.part
    part = part_scores(model, image_part, captions.parts)
    whole = whole_scores(model, image_whole, captions.whole)
    scale, bias = model.part_log_scale.exp(), model.part_bias
    for i, path in enumerate(pictures):  # one image and one caption at a time
        pixels = center_crop(open_image(path), 64)[None]
        hierarchy = model.encode_hierarchy(pixels, model.superpixel_labels(pixels))
        segments, cls = model.project_part(hierarchy.stages[0]), model.project_part(hierarchy.cls)[0]
        for j, caption in enumerate(CAPTIONS):
            text = model.sub_caption_projection(model.sub_caption(tokenize(caption.removesuffix("."), 77)))[0]
            pooled = model.pool(text[None, None], segments)[0][0, 0]
            for found, feature in ((part, pooled), (whole, cls)):
                expected = scale * F.cosine_similarity(feature, text, dim=0) + bias
                assert found[i, j].item() == pytest.approx(expected.item(), abs=1e-4)


def test_maps_of_a_flat_model_are_its_grid_stretched_over_the_image() -> None:
    model, params = built("flair")
    images, tokens = fixed_batch(params)
    image = model.eval().image_features(images[:1])
    texts = model.sub_caption_features(tokens[0])
    attention = model.attention(image.part, texts[None])[0]  # (K, 64)
    maps = attention_maps(model, image, texts, (40, 60))
    expected = F.interpolate(attention.view(1, -1, 8, 8), size=(40, 60), mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(maps, expected.numpy(), atol=1e-6)
    assert maps.shape == (8, 40, 60) and len(model.stage_labels(image)) == 1


def test_masks_of_a_flat_model_are_scored_on_its_only_level(pictures: list[Path]) -> None:
    model, _ = built("flair")
    model.eval()
    truth = np.zeros((64, 64), bool)
    truth[10:40, 20:50] = True
    box = [[20, 10, 50, 10, 50, 40, 20, 40]]
    texts = ["a red thing", "grass"]
    images = [ReferringImage(path, 64, 64, {7: box}, [Expression(text, 7) for text in texts]) for path in pictures]
    scores, rows = score_expressions(model, ReferringSet(images), batch=3)
    ious = []
    for path in pictures:
        image = model.image_features(squash(open_image(path), 64)[None])
        for values in model.attention(image.part, encode_sub_captions(model, texts)[None])[0].view(2, 8, 8):
            large = F.interpolate(values[None, None], size=(64, 64), mode="bilinear")[0, 0].numpy().astype(np.float64)
            mask = large > threshold_otsu(large)
            ious.append((mask & truth).sum() / (mask | truth).sum())
    np.testing.assert_allclose([row.score.iou for row in rows], ious, atol=2e-3)
    assert {row.level for row in rows} == {64} and list(scores["miou_by_level"]) == ["64"]
    assert scores["miou"] == scores["miou_by_level"]["64"]


def test_a_box_weighs_the_patches_of_a_flat_model_by_the_area_inside() -> None:
    model, params = built("flair")
    image = model.eval().image_features(fixed_batch(params)[0][:1])
    # Of an image 80 wide and 160 high, a patch is 10 x 20: the box covers half of one patch and a quarter of another.
    weights = box_weights(model, image, (20, 40, 12.5, 10), (160, 80))[0].view(8, 8)
    expected = torch.zeros(8, 8)
    expected[2, 2], expected[2, 3] = 1.0, 0.25
    torch.testing.assert_close(weights, expected)


# ---- the job


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four images with seven captions, indexed."""
    root = tmp_path_factory.mktemp("corpus")
    rows = [
        [f"It is {n}. And a {n} more. Of {n} field {f}. In {n * f}." for f in range(7)] for n in range(24)
    ]  # fmt: skip
    _corpus(root, "one", [rows])
    build_index(root / "index", [{"name": "one", "fingerprint": "a"}], "spacy", root / "captions", root / "sentences")
    return root


@pytest.mark.parametrize("row", ["flair", "siglip", "no_part"])
def test_the_training_job_takes_a_row_as_it_is(
    row: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("RANK", "WORLD_SIZE", "SUBMITIT_EXECUTOR"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "small.yaml").write_text("{train: {batch: 4, samples: 12}, recipes: {smoke: {validation_images: 4}}}")
    params = settings(row, more=str(tmp_path / "small.yaml"))
    superpixels = tmp_path / "sfcn.safetensors"
    if row not in FLAT:  # a flat tower never opens the file
        save_model(SFCN(params.selected_model.superpixels.widths), superpixels, {})
    recipe = params.selected_recipe
    reading = {"splitter": recipe.splitter, "chunks": recipe.chunks, "balanced_rule": recipe.balanced_rule}
    card = ModelCard(model=params.selected_model, **reading)
    np.save(tmp_path / "excluded.npy", np.zeros(0, np.int64))
    excluded = tmp_path / "excluded.npy"
    TrainJob(params, "f" * 16, tmp_path, corpus / "index", excluded, corpus / "images", superpixels, card)()
    assert load(tmp_path / "final.safetensors").network.config == params.selected_model
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    trained, validated = lines[-2:]
    assert trained["step"] == validated["step"] == 3
    assert {key for key in trained if key.endswith("_bias")} == {"part_bias" if row == "flair" else "whole_bias"}
    assert ("validation_part_t2i_r1" in validated) == (row == "flair") and "validation_t2i_r1" in validated
    assert bool(list(tmp_path.glob("superpixels-*"))) == (row not in FLAT)
