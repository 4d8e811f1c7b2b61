"""FLAIR's published names: a file of them loads, and is computed as by torch's own modules under these names."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import caft
from caft.errors import CheckpointError
from caft.params import ModelParams, load_params
from caft.weights.flair import FLAIR
from caft.weights.load import from_flair
from tests.test_pretrained import Shapes, flair_parts, norm, part_of, random_state, resblocks, their_norm

PROJECT = Path(__file__).parents[1]
ROW = PROJECT / "pipelines/ablation/flair.yaml"
TINY = load_params(PROJECT / "params.yaml", [ROW]).selected_model


def flair_shapes(sizes: ModelParams) -> Shapes:
    width = sizes.width
    assert sizes.patch is not None
    shapes: Shapes = {
        "visual.conv1.weight": (width, 3, sizes.patch, sizes.patch),
        "visual.class_embedding": (width,),
        "visual.positional_embedding": (sizes.tokens[0] + 1, width),
    }
    shapes |= norm("visual.ln_pre", width) | norm("visual.ln_post", width)
    for name, value in resblocks("visual.transformer", width, sizes.blocks[0]).items():
        # The MLP of `tiny` is twice as wide as the tokens, the published one four times.
        four = 4 * width
        shapes[name] = tuple(sizes.mlp_ratio * width if size == four and "mlp" in name else size for size in value)
    shapes |= flair_parts(sizes)
    return shapes | {"logit_scale": (), "logit_bias": ()}


def test_the_published_sizes_are_those_of_the_ablations_first_row() -> None:
    assert load_params(PROJECT / "params.yaml", [ROW, PROJECT / "tests/base.yaml"]).selected_model == FLAIR


def test_every_published_name_and_shape_has_its_place() -> None:
    """At the published sizes, without values: ViT-B/16 and CLIP's text tower, and a million more for the pooling."""
    with torch.device("meta"):
        state = {name: torch.empty(shape) for name, shape in flair_shapes(FLAIR).items()}
        expected = caft.CAFT(FLAIR, chunks=1).state_dict()
    from caft.weights.flair import convert

    found, problems = convert(state, expected, FLAIR)
    assert problems == [] and {name: t.shape for name, t in found.items()} == {n: t.shape for n, t in expected.items()}
    assert sum(t.numel() for t in state.values()) == pytest.approx(150.7e6, rel=0.01)  # "150M" by its authors


def block(state: dict[str, Tensor], name: str, x: Tensor, heads: int, causal: bool) -> Tensor:
    """A residual block of torch's own functions."""
    own = part_of(state, f"{name}.")
    attention = nn.MultiheadAttention(x.shape[-1], heads, batch_first=True)
    attention.load_state_dict(part_of(own, "attn."))
    mask = torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1) if causal else None
    y = their_norm(own, "ln_1", x)
    x = x + attention(y, y, y, need_weights=False, attn_mask=mask)[0]
    hidden = F.gelu(F.linear(their_norm(own, "ln_2", x), own["mlp.c_fc.weight"], own["mlp.c_fc.bias"]))
    return x + F.linear(hidden, own["mlp.c_proj.weight"], own["mlp.c_proj.bias"])


@torch.no_grad()
def test_scores_are_those_of_torchs_modules_under_the_published_names() -> None:
    sizes = TINY.model_copy(update={"grounding": FLAIR.grounding})
    state = random_state(flair_shapes(sizes))
    loaded = from_flair(state, config=sizes)
    model = loaded.network
    assert (loaded.card.chunks, loaded.card.splitter) == (1, "dreamlip")
    pixels = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    x = F.conv2d((pixels / 255 - mean) / std, state["visual.conv1.weight"], stride=sizes.patch)
    x = torch.cat([state["visual.class_embedding"].expand(2, 1, -1), x.flatten(2).transpose(1, 2)], dim=1)
    x = their_norm(state, "visual.ln_pre", x + state["visual.positional_embedding"])
    for number in range(sizes.blocks[0]):
        x = block(state, f"visual.transformer.resblocks.{number}", x, sizes.heads, causal=False)
    x = their_norm(state, "visual.ln_post", x) @ state["image_post.proj"]
    images, local = x[:, 0], x[:, 1:]

    tokens = torch.zeros(3, 77, dtype=torch.long)
    for row, length in enumerate((3, 20, 77)):
        tokens[row, :length] = torch.randint(1, 49000, (length,))
        tokens[row, length - 1] = 49407
    x = state["token_embedding.weight"][tokens] + state["positional_embedding"]
    for number in range(sizes.text.sub_layers):
        x = block(state, f"transformer.resblocks.{number}", x, sizes.text.heads, causal=True)
    texts = their_norm(state, "ln_final", x)[torch.arange(3), tokens.argmax(1)] @ state["text_post.proj"]

    pooling = nn.MultiheadAttention(64, 8, add_zero_attn=True, batch_first=True)
    pooling.load_state_dict(part_of(state, "visual_proj.attn."))
    query = their_norm(state, "visual_proj.ln_q", texts.expand(2, -1, -1))
    keys, values = (their_norm(state, f"visual_proj.ln_{letter}", local) for letter in "kv")
    conditioned = pooling(query, keys, values, need_weights=False)[0]
    logits = state["logit_scale"].exp() * F.cosine_similarity(conditioned, texts[None], dim=-1) + state["logit_bias"]

    features = model.image_features(pixels)
    whole, parts = model.text_features(tokens[:, None])
    torch.testing.assert_close(features.part, local, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(features.whole, F.normalize(images, dim=-1), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(whole, F.normalize(texts, dim=-1), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(model.part_logits(features.part, parts[:, 0]), logits, atol=1e-5, rtol=1e-4)


def test_what_does_not_fit_is_listed_and_a_file_is_known_by_its_names(tmp_path: Path) -> None:
    state = random_state(flair_shapes(TINY))
    del state["logit_bias"]
    state["visual.ln_post.weight"] = torch.zeros(3)
    state["visual.proj"] = torch.zeros(64, 64)
    with pytest.raises(CheckpointError) as raised:
        from_flair(state, "flair.pt", TINY)
    assert str(raised.value).splitlines() == [
        "flair.pt: 3 weights do not fit the model",
        "  visual.ln_post.weight: found (3,), expected (64,)",
        "  missing logit_bias",
        "  unexpected visual.proj",
    ]
    # `caft.load` takes it for FLAIR's, of the published sizes, which these are not.
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "flair.pt")
    with pytest.raises(
        CheckpointError, match=r"visual.conv1.weight: found \(64, 3, 8, 8\), expected \(768, 3, 16, 16\)"
    ):
        caft.load(tmp_path / "flair.pt")
