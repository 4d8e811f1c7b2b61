"""The published files load: names and shapes as their printed models say, values where the same maths needs them."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import caft
from caft.errors import CheckpointError
from caft.model.card import ModelCard
from caft.model.command import main
from caft.network.layers import sin_cos_positions
from caft.params import load_params
from caft.params.models import ModelParams
from caft.weights.authors import AUTHORS_MODEL
from caft.weights.files import read_weights, save_model
from caft.weights.load import from_release, load
from caft.weights.sfcn import sfcn_from_checkpoint

MODELS = load_params(Path(__file__).parents[1] / "params.yaml").models
TINY = MODELS["tiny"]
Shapes = dict[str, tuple[int, ...]]


# ---- the published names, written down a second time


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def batch_norm(name: str, width: int) -> Shapes:
    statistics = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,), f"{name}.num_batches_tracked": ()}
    return norm(name, width) | statistics


def resblocks(name: str, width: int, layers: int) -> Shapes:
    shapes: Shapes = {}
    for i in range(layers):
        block = f"{name}.resblocks.{i}"
        shapes |= norm(f"{block}.ln_1", width) | norm(f"{block}.ln_2", width)
        shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        shapes |= linear(f"{block}.attn.out_proj", width, width)
        shapes |= linear(f"{block}.mlp.c_fc", width, 4 * width) | linear(f"{block}.mlp.c_proj", 4 * width, width)
    return shapes


def sfcn_shapes(prefix: str, widths: tuple[int, ...], unused_heads: bool) -> Shapes:
    """The superpixel network's: 100 entries as published."""
    shapes: Shapes = {}

    def convolution(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{prefix}{name}.0.weight"] = (outputs, inputs, 3, 3)
        shapes.update(batch_norm(f"{prefix}{name}.1", outputs))

    previous = 3
    for level, width in enumerate(widths):
        convolution(f"conv{level}a", previous, width)
        convolution(f"conv{level}b", width, width)
        previous = width
    for level in range(len(widths) - 2, -1, -1):
        fine, coarse = widths[level], widths[level + 1]
        shapes[f"{prefix}deconv{level}.0.weight"] = (coarse, fine, 4, 4)
        shapes[f"{prefix}deconv{level}.0.bias"] = (fine,)
        convolution(f"conv{level}_1", 2 * fine, fine)
        if level == 0 or unused_heads:
            head = f"{prefix}pred_mask{level}"
            shapes |= {f"{head}.weight": (9, fine, 3, 3), f"{head}.bias": (9,)}
    return shapes


def flair_parts(sizes: ModelParams) -> Shapes:
    """What the release has from FLAIR: the pooling, the text encoder and the projections."""
    width, embed, text = sizes.width, sizes.embed_dim, sizes.text
    shapes: Shapes = {}
    shapes |= {"visual_proj.attn.in_proj_weight": (3 * embed, embed), "visual_proj.attn.in_proj_bias": (3 * embed,)}
    shapes |= linear("visual_proj.attn.out_proj", embed, embed)
    for letter in "qkv":
        shapes |= norm(f"visual_proj.ln_{letter}", embed)
    shapes["token_embedding.weight"] = (text.vocabulary, text.width)
    shapes["positional_embedding"] = (text.context, text.width)
    shapes |= resblocks("transformer", text.width, text.sub_layers) | norm("ln_final", text.width)
    shapes |= {"image_post.proj": (width, embed), "text_post.proj": (text.width, embed)}
    return shapes


def released_shapes(sizes: ModelParams) -> Shapes:
    width, embed, text = sizes.width, sizes.embed_dim, sizes.text
    stride, previous = 1, 3
    shapes: Shapes = {"visual.cls_token": (1, 1, width), "visual.pe_token": (1, 1, width)}
    for i, (channels, step) in enumerate(zip(sizes.stem.channels, sizes.stem.strides, strict=True)):
        shapes[f"visual.patch_embed.proj.{3 * i}.weight"] = (channels, previous, 3, 3)
        shapes |= batch_norm(f"visual.patch_embed.proj.{3 * i + 1}", channels)
        previous, stride = channels, stride * step
    last = f"visual.patch_embed.proj.{3 * len(sizes.stem.channels)}"
    shapes |= {f"{last}.weight": (width, previous, 1, 1), f"{last}.bias": (width,)}
    shapes["visual.pos_embed"] = (1, (sizes.image_size // stride) ** 2, width)
    for i in range(sum(sizes.blocks)):
        block, hidden = f"visual.blocks.{i}", sizes.mlp_ratio * width
        shapes |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
        shapes |= linear(f"{block}.attn.qkv", width, 3 * width) | linear(f"{block}.attn.proj", width, width)
        shapes |= linear(f"{block}.mlp.fc1", width, hidden) | linear(f"{block}.mlp.fc2", hidden, width)
    for i in range(3):
        pool = f"visual.pools.{i}.pool_block"
        shapes |= {f"{pool}.centroid_fc.bias": (width,)} | norm(f"{pool}.centroid_fc.norm", width)
        shapes |= linear(f"{pool}.centroid_fc.attn.qkv", width, 3 * width)
        shapes |= linear(f"{pool}.centroid_fc.attn.proj", width, width)
        shapes |= norm(f"{pool}.fc1.0", width) | linear(f"{pool}.fc1.1", width, 4 * width)
        shapes |= norm(f"{pool}.fc2.0", 4 * width) | linear(f"{pool}.fc2.1", 4 * width, width)
    shapes |= norm("visual.norm", width) | norm("visual.norm_fine", width)
    shapes |= sfcn_shapes("visual.superpixel_generator.model.", sizes.superpixels.widths, unused_heads=True)
    shapes |= flair_parts(sizes)
    shapes["paragraph_encoder.cls_embed"] = (1, 1, text.width)
    shapes["paragraph_encoder.positional_embedding"] = (1, 5, text.width)
    shapes |= resblocks("paragraph_encoder.transformer", text.width, text.whole_layers)
    shapes |= norm("paragraph_encoder.ln_final", text.width)
    shapes["paragraph_encoder.adapter.ls.gamma"] = (text.width,)
    shapes |= linear("paragraph_encoder.adapter.mlp.c_fc", text.width, text.adapter)
    shapes |= linear("paragraph_encoder.adapter.mlp.c_proj", text.adapter, text.width)
    shapes |= {"image_post_coarse.proj": (width, embed), "text_post_coarse.proj": (text.width, embed)}
    return shapes | {name: () for name in ("logit_scale", "logit_bias", "logit_scale_coarse", "logit_bias_coarse")}


def random_state(shapes: Shapes) -> dict[str, Tensor]:
    torch.manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(17)
        elif name.endswith("running_var"):
            state[name] = torch.rand(shape) + 0.5
        else:
            state[name] = torch.empty(shape).uniform_(-0.05, 0.05)
    return state


def released_state(sizes: ModelParams) -> dict[str, Tensor]:
    shapes = released_shapes(sizes)
    state = random_state(shapes)
    state["visual.pe_token"].zero_()
    side = round(shapes["visual.pos_embed"][1] ** 0.5)
    state["visual.pos_embed"] = sin_cos_positions(side, sizes.width).view(1, side * side, -1)
    return state


# ---- the release of CAFT


def test_the_released_sizes_are_those_of_base() -> None:
    assert MODELS["base"] == AUTHORS_MODEL


def test_the_authors_file_loads_whole_and_runs(tmp_path: Path) -> None:
    state = released_state(AUTHORS_MODEL)
    assert sum(name.startswith("visual.superpixel_generator.") for name in state) == 100
    path = tmp_path / "epoch_32.pt"
    content = {
        "epoch": 32,
        "name": "CAFT-B",
        "state_dict": {f"module.{k}": v for k, v in state.items()},
        "optimizer": {},
    }
    torch.save(content, path)
    loaded = caft.load(path)
    model = loaded.network
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    assert not model.training and not model.superpixels.training
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == [
        f"superpixels.{name}" for name, _ in model.superpixels.named_parameters()
    ]
    assert loaded.card.splitter == "dreamlip" and loaded.card.balanced_rule == "release"
    assert loaded.card.fingerprint is not None and len(loaded.card.fingerprint) == 16
    # Every number of the file but the fixed ones and the unused heads has its place: the sums agree.
    dropped = ("visual.pos_embed", "visual.pe_token")
    kept = {k: t for k, t in state.items() if k not in dropped and not any(f"pred_mask{i}." in k for i in (1, 2, 3))}
    ours = model.state_dict()
    assert sum(t.numel() for t in kept.values()) == sum(t.numel() for t in ours.values())
    assert sum(float(t.sum(dtype=torch.float64)) for t in kept.values()) == pytest.approx(
        sum(float(t.sum(dtype=torch.float64)) for t in ours.values()), abs=1e-6
    )
    features = model.image_features(torch.randint(256, (1, 3, 224, 224), dtype=torch.uint8))
    assert features.whole.shape == (1, 512) and features.part.shape == (1, 64, 512)
    assert features.whole.isfinite().all() and features.part.isfinite().all()
    # The command writes the same weights and card.
    assert main(["convert", str(path), "-o", str(tmp_path / "caft.safetensors")]) == 0
    again = caft.load(tmp_path / "caft.safetensors")
    assert again.card == loaded.card
    assert all(torch.equal(tensor, ours[name]) for name, tensor in again.network.state_dict().items())


def test_a_released_model_goes_through_safetensors_unchanged(tmp_path: Path) -> None:
    released = from_release(released_state(TINY), config=TINY)
    save_model(released.network, tmp_path / "model.safetensors", released.card)
    loaded = load(tmp_path / "model.safetensors")
    model, again = released.network, loaded.network
    assert loaded.card == released.card and not again.training
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in again.state_dict().items())
    assert torch.equal(again.vision.positions, sin_cos_positions(16, 64))
    pixels = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(again.image_features(pixels).whole, model.image_features(pixels).whole)


def test_weights_are_copied_and_half_precision_is_widened() -> None:
    state = released_state(TINY)
    halves = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    model = from_release(halves, config=TINY).network
    assert all(t.dtype in (torch.float32, torch.int64) for t in model.state_dict().values())
    model = from_release(state, config=TINY).network
    before = model.whole_projection.weight.clone()
    state["image_post_coarse.proj"].zero_()
    assert torch.equal(model.whole_projection.weight, before)


def test_every_name_that_does_not_fit_is_listed_at_once() -> None:
    state = released_state(TINY)
    state["visual.blocks.2.mlp.fc1.weight"] = torch.zeros(3, 3)
    state["visual_proj.attn.in_proj_weight"] = torch.zeros(64, 64)
    state["paragraph_encoder.positional_embedding"] = torch.zeros(5, 64)
    state["visual.pools.3.pool_block.fc1.0.weight"] = torch.zeros(64)
    state["visual.pe_token"][0, 0, 3] = 0.25
    del state["logit_bias_coarse"], state["visual.pos_embed"]
    del state["visual.superpixel_generator.model.conv0a.0.weight"]
    state["visual.superpixel_generator.copy.conv0b.0.weight"] = torch.zeros(8, 8, 3, 3)
    with pytest.raises(CheckpointError) as raised:
        from_release(state, "epoch_32.pt", TINY)
    first, *lines = str(raised.value).splitlines()
    assert first == "epoch_32.pt: 9 weights do not fit the model"
    assert sorted(lines) == [
        "  missing logit_bias_coarse",
        "  missing visual.pos_embed",
        "  missing visual.superpixel_generator.conv0a.0.weight",
        "  paragraph_encoder.positional_embedding: found (5, 64), expected (1, 5, 64)",
        "  unexpected visual.pools.3.pool_block.fc1.0.weight",
        "  unexpected visual.superpixel_generator.copy.conv0b.0.weight",
        "  visual.blocks.2.mlp.fc1.weight: found (3, 3), expected (128, 64)",
        "  visual.pe_token: is fixed, but differs by up to 0.25 from the value that it must have",
        "  visual_proj.attn.in_proj_weight: found (64, 64), expected (192, 64)",
    ]


class TheirBlock(nn.Module):
    """A block of open_clip's text transformer, of torch's own modules."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1)
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp["c_proj"](nn.functional.gelu(self.mlp["c_fc"](self.ln_2(x))))


def part_of(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


@torch.no_grad()
def their_blocks(state: dict[str, Tensor], name: str, layers: int, x: Tensor) -> Tensor:
    for number in range(layers):
        block = TheirBlock(TINY.text.width, TINY.text.heads)
        block.load_state_dict(part_of(state, f"{name}.resblocks.{number}."))
        x = block(x)
    return x


def their_norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return nn.functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


@torch.no_grad()
def test_texts_are_encoded_as_by_torchs_modules_under_the_released_names() -> None:
    state = released_state(TINY)
    model = from_release(state, config=TINY).network
    tokens = torch.zeros(4, 77, dtype=torch.long)
    for row, length in enumerate((3, 9, 30, 77)):
        tokens[row, :length] = torch.randint(1, 49000, (length,))
        tokens[row, length - 1] = 49407
    x = state["token_embedding.weight"][tokens] + state["positional_embedding"]
    x = their_norm(state, "ln_final", their_blocks(state, "transformer", TINY.text.sub_layers, x))
    chunks = x[torch.arange(4), tokens.argmax(1)]
    hidden = nn.functional.linear(
        chunks, state["paragraph_encoder.adapter.mlp.c_fc.weight"], state["paragraph_encoder.adapter.mlp.c_fc.bias"]
    )
    hidden = nn.functional.linear(
        nn.functional.gelu(hidden),
        state["paragraph_encoder.adapter.mlp.c_proj.weight"],
        state["paragraph_encoder.adapter.mlp.c_proj.bias"],
    )
    adapted = (chunks + state["paragraph_encoder.adapter.ls.gamma"] * hidden)[None]
    x = torch.cat([adapted, state["paragraph_encoder.cls_embed"]], dim=1)
    x = x + state["paragraph_encoder.positional_embedding"]
    x = their_blocks(state, "paragraph_encoder.transformer", TINY.text.whole_layers, x)[:, -1]
    whole = their_norm(state, "paragraph_encoder.ln_final", x) @ state["text_post_coarse.proj"]
    found_whole, found_parts = model.text_features(tokens[None])
    torch.testing.assert_close(found_parts[0], chunks @ state["text_post.proj"], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found_whole, nn.functional.normalize(whole, dim=-1), atol=1e-6, rtol=1e-4)


@torch.no_grad()
def test_segments_are_pooled_as_by_torchs_attention_under_the_released_names() -> None:
    sizes = TINY.model_copy(update={"grounding": AUTHORS_MODEL.grounding})
    state = released_state(sizes)
    model = from_release(state, config=sizes).network
    attention = nn.MultiheadAttention(64, 8, add_zero_attn=True, batch_first=True)
    attention.load_state_dict(part_of(state, "visual_proj.attn."))
    query, tokens = torch.randn(2, 3, 64), torch.randn(2, 6, 64)
    expected, weights = attention(
        their_norm(state, "visual_proj.ln_q", query),
        their_norm(state, "visual_proj.ln_k", tokens),
        their_norm(state, "visual_proj.ln_v", tokens),
        average_attn_weights=False,
    )
    found, shares = model.pool(query, tokens)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(shares, weights, atol=1e-6, rtol=1e-4)


# ---- SFCN's published checkpoint


def test_the_published_superpixel_file_loads(tmp_path: Path) -> None:
    shapes = sfcn_shapes("", (16, 32, 64, 128, 256), unused_heads=True)
    assert len(shapes) == 100
    state = random_state(shapes)
    learnt = [t.numel() for name, t in state.items() if "running" not in name and "num_batches" not in name]
    assert sum(learnt) == 2_287_956
    path = tmp_path / "SpixelNet_bsd_ckpt.tar"
    content = {
        "epoch": 7,
        "arch": "SpixelNet1l_bn",
        "state_dict": state,
        "best_EPE": 1.5,
        "optimizer": {},
        "dataset": "b",
    }
    torch.save(content, path, _use_new_zipfile_serialization=False)
    network = sfcn_from_checkpoint(path)
    assert not network.training and sum(p.numel() for p in network.parameters()) == 2_269_785
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    prob = network(torch.rand(1, 3, 32, 32))
    torch.testing.assert_close(prob.sum(1), torch.ones(1, 32, 32))


def test_a_superpixel_file_that_does_not_fit_says_every_name(tmp_path: Path) -> None:
    state = random_state(sfcn_shapes("module.", (16, 32, 64, 128, 256), unused_heads=True))
    del state["module.conv3_1.0.weight"]
    state["module.conv0a.0.weight"] = torch.zeros(16, 1, 3, 3)
    state["module.extra"] = torch.zeros(1)
    torch.save({"state_dict": state}, tmp_path / "bad.tar", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError) as raised:
        sfcn_from_checkpoint(tmp_path / "bad.tar")
    assert str(raised.value) == (
        f"{tmp_path / 'bad.tar'}: 3 weights do not fit the model\n"
        "  missing conv3_1.0.weight\n"
        "  unexpected extra\n"
        "  conv0a.0.weight: found (16, 1, 3, 3), expected (16, 3, 3, 3)"
    )


# ---- files


def test_two_processes_that_save_to_one_path_do_not_meet(tmp_path: Path) -> None:
    """Threads here: what could meet is the temporary file's name."""
    path = tmp_path / "model.safetensors"

    def save(module: nn.Module) -> None:
        for _ in range(30):
            save_model(module, path, {})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(save, [nn.Linear(64, 64), nn.Linear(64, 64)]))
    assert sorted(found.name for found in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    assert set(read_weights(path)) == {"weight", "bias"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a dict of tensors, or one under state_dict; found list"),
        ({"epoch": 3, "model": "x"}, r"found a dict of epoch \(int\), model \(str\)"),
    ],
)
def test_a_torch_file_of_something_else_is_refused(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        caft.load(path)


def test_a_damaged_and_a_missing_file_say_so(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with pytest.raises(CheckpointError, match="model.pt: not found; give the path of the downloaded file"):
        caft.load(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(CheckpointError, match="cannot be read as a torch checkpoint .*; fetch it again"):
        caft.load(path)


# ---- memory

_PEAK = """
import re, sys
from pathlib import Path
import caft.eval.given
from caft.weights.checkpoints import read_checkpoint
from caft.weights.load import load
# Not ru_maxrss, which begins with what the process had that started this one.
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
before = peak()
found = load(sys.argv[1]).network.state_dict() if sys.argv[2] == "load" else read_checkpoint(Path(sys.argv[1]))
print(peak() - before, sum(tensor.nbytes for tensor in found.values()))
"""


def peak_of_reading(path: Path, how: str) -> tuple[int, int]:
    """What a process of its own takes at most above what it had, and the size of what was read, in bytes."""
    command = [sys.executable, "-c", _PEAK, str(path), how]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    peak, size = map(int, done.stdout.split())
    return peak, size


def checkpoint(state: dict[str, Tensor]) -> dict[str, object]:
    """As open_clip's training saves it, with the state of AdamW."""
    moments = [{"step": torch.tensor(1.0), "exp_avg": t.clone(), "exp_avg_sq": t.clone()} for t in state.values()]
    optimizer = {"state": dict(enumerate(moments)), "param_groups": [{"lr": 1e-4, "params": list(range(len(state)))}]}
    named = {f"module.{name}": tensor for name, tensor in state.items()}
    return {"epoch": 32, "name": "caft", "state_dict": named, "optimizer": optimizer, "scaler": {"scale": 1.0}}


@pytest.mark.slow
def test_the_optimizers_state_is_never_read(tmp_path: Path) -> None:
    state = {f"{number}.weight": torch.rand(1024, 5120) for number in range(8)}  # 168 MB, a part of 64 MiB holds three
    torch.save(checkpoint(state), tmp_path / "x.pt")
    peak, size = peak_of_reading(tmp_path / "x.pt", "read")
    assert size == 8 * 1024 * 5120 * 4 and peak < 1.6 * size  # of so few weights, a part is much


@pytest.mark.verify
def test_a_published_file_is_loaded_in_little_more_than_its_weights(tmp_path: Path) -> None:
    torch.save(checkpoint(released_state(AUTHORS_MODEL)), tmp_path / "CAFT-30M.pt")
    assert (tmp_path / "CAFT-30M.pt").stat().st_size > 2_000_000_000
    peak, size = peak_of_reading(tmp_path / "CAFT-30M.pt", "load")
    assert peak < 1.2 * size


def test_a_loaded_model_outlives_its_file(tmp_path: Path) -> None:
    """What is mapped may not be changed under the model, as by saving over it; weights are copied from there."""
    path, card = tmp_path / "x.pt", ModelCard(model=TINY, splitter="dreamlip", chunks=4, balanced_rule="paper")
    own = caft.CAFT(TINY, chunks=4)
    save_model(own, tmp_path / "x.safetensors", card)
    torch.save(own.state_dict(), path)
    loaded = load(path).network.state_dict()
    path.write_bytes(bytes(path.stat().st_size))
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in own.state_dict().items())
