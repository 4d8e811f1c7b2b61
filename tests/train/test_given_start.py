"""Given weights as a start: what of a file is taken, to the bit, what is not, and every refusal with what would fit."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from caft import CAFT, ModelCard
from caft.data.look import look
from caft.errors import CaftError
from caft.params import Params, load_params
from caft.train import launch
from caft.train.plan import plan
from caft.weights.files import save_model
from caft.weights.flair import FLAIR
from caft.weights.sfcn import sfcn_from_checkpoint
from caft.weights.start import Start, start
from tests.test_pretrained import random_state, released_state
from tests.test_pretrained_flair import flair_shapes

PROJECT = Path(__file__).parents[2]
PARAMS = load_params(PROJECT / "params.yaml")
TINY, BASE = PARAMS.models["tiny"], PARAMS.models["base"]
FLAIR_ROW = "pipelines/ablation/flair.yaml"


def settings(given: Path | str, *values: str, over: tuple[str, ...] = ()) -> Params:
    overlays = [PROJECT / name for name in over]
    return load_params(PROJECT / "params.yaml", overlays, [f"init={given}", *values])


@pytest.fixture(scope="module")
def network() -> CAFT:
    torch.manual_seed(1)
    return CAFT(TINY, 4).eval()


@pytest.fixture(scope="module")
def ours(network: CAFT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ours") / "caft.safetensors"
    card = ModelCard(model=TINY, splitter="spacy", chunks=4, balanced_rule="paper")
    save_model(network, path, card)
    return path


def verdicts(found: Start) -> dict[str, str]:
    return {name: what.split(",")[0] for name, _, what in found.rows}


def refusal(params: Params) -> str:
    with pytest.raises(CaftError) as raised:
        plan(params)
    text = str(raised.value)
    assert len(text.splitlines()) <= 10
    return text


# ---- what is taken


def test_of_our_own_model_everything_is_taken(ours: Path, network: CAFT) -> None:
    found = start(settings(ours), ours)
    state = network.state_dict()
    assert found.weights.keys() == state.keys()
    assert all(torch.equal(found.weights[name], tensor) for name, tensor in state.items())
    assert set(verdicts(found).values()) == {"taken"}
    assert len(found.table) == len(found.rows) and "vision.stages.1" in found.summary
    assert next(line for line in plan(settings(ours)) if line.startswith("init")).split()[1] == f"{ours};"


def test_without_a_part_level_the_rest_is_taken(ours: Path) -> None:
    found = start(settings(ours, over=("pipelines/ablation/no_part.yaml",)), ours)
    out = {name for name, what in verdicts(found).items() if what == "left out"}
    assert out == {"vision.projections.part", "text.projections.part", "pool", "temperatures.part"}
    assert not any(name.startswith(("part_", "pool.", "sub_caption_projection")) for name in found.weights)


def test_a_level_that_the_file_lacks_is_drawn_anew(tmp_path: Path) -> None:
    sizes = load_params(PROJECT / "params.yaml", [PROJECT / "pipelines/ablation/no_part.yaml"]).selected_model
    path = tmp_path / "no_part.safetensors"
    save_model(CAFT(sizes, 4), path, ModelCard(model=sizes, splitter="spacy", chunks=4, balanced_rule="paper"))
    found = verdicts(start(settings(path), path))
    anew = {name for name, what in found.items() if what == "anew"}
    assert anew == {"vision.projections.part", "text.projections.part", "pool", "temperatures.part"}


@pytest.mark.verify  # test_pretrained.py has every name and layout at the size of tiny
def test_a_file_of_the_authors_names_starts_base_and_its_optimizer_is_never_held(tmp_path: Path) -> None:
    """Peak memory of a process that loads it, over the one that holds torch alone: under 1.2 times the model."""
    state = released_state(BASE)
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    path = tmp_path / "CAFT-3M.pt"
    moments = torch.zeros(size // 4)
    held = {"epoch": 32, "name": "x", "state_dict": {f"module.{n}": t for n, t in state.items()}}
    torch.save({**held, "optimizer": {"state": {0: {"exp_avg": moments}}, "param_groups": []}}, path)
    del moments
    found = start(settings(path, "model=base", "recipe=release", "launch=a100x8"), path)
    assert set(verdicts(found).values()) == {"taken"}
    assert torch.equal(found.weights["vision.cls"], state["visual.cls_token"])
    assert torch.equal(found.weights["whole_projection.weight"], state["image_post_coarse.proj"].T)
    query, _, value = state["visual_proj.attn.in_proj_weight"].chunk(3)
    assert torch.equal(found.weights["pool.query.weight"], query)
    assert torch.equal(found.weights["pool.value.weight"], value)
    assert torch.equal(found.weights["vision.stages.3.1.mlp.fc1.weight"], state["visual.blocks.10.mlp.fc1.weight"])
    # Linux' own high-water mark of a process, mapped pages of the file included.
    program = (
        "import sys, caft, torch; from pathlib import Path\n"
        "def peak(): return int(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1]) * 1024\n"
        "from caft.weights.load import load\n"
        "before = peak(); model = load(Path(sys.argv[1])); print(peak() - before)\n"
        "print(sum(float(p.sum()) for p in model.network.parameters()))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert size < int(done.stdout.split()[0]) < 1.2 * size, (done.stdout, size)


@pytest.mark.slow
def test_flairs_file_starts_its_row_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "flair.pt"
    state = random_state(flair_shapes(FLAIR))
    torch.save({"state_dict": state}, path)
    row = ("model=base", "recipe=release", "launch=a100x8")
    found = start(settings(path, *row, over=(FLAIR_ROW,)), path)
    assert set(verdicts(found).values()) == {"taken"}
    assert torch.equal(found.weights["part_projection.weight"], state["image_post.proj"].T)
    text = refusal(settings(path, *row))
    assert "does not fit models.base" in text
    assert "it fits models.base under pipelines/ablation/flair.yaml" in text


def clip_state() -> dict[str, Tensor]:
    """open_clip's ViT-B-16, by the names and shapes of its modules of torch."""
    torch.manual_seed(2)

    def block(name: str, width: int) -> dict[str, Tensor]:
        with torch.device("meta"):
            layer = torch.nn.TransformerEncoderLayer(width, 8, 4 * width)
        names = {
            "self_attn": "attn", "linear1": "mlp.c_fc", "linear2": "mlp.c_proj", "norm1": "ln_1", "norm2": "ln_2"
        }  # fmt: skip
        state = {}
        for key, tensor in layer.state_dict().items():
            stem, _, rest = key.partition(".")
            state[f"{name}.{names[stem]}.{rest}"] = torch.randn(tensor.shape) / 10
        return state

    shapes = {
        "positional_embedding": (77, 512), "text_projection": (512, 512), "logit_scale": (),
        "visual.class_embedding": (768,), "visual.positional_embedding": (197, 768), "visual.proj": (768, 512),
        "visual.conv1.weight": (768, 3, 16, 16), "token_embedding.weight": (49408, 512),
    }  # fmt: skip
    for name, width in {"visual.ln_pre": 768, "visual.ln_post": 768, "ln_final": 512}.items():
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    state = {name: torch.randn(shape) / 10 for name, shape in shapes.items()}
    for number in range(12):
        state |= block(f"visual.transformer.resblocks.{number}", 768) | block(f"transformer.resblocks.{number}", 512)
    return state


@pytest.mark.slow
def test_open_clips_vit_starts_the_flat_towers_which_give_its_features(tmp_path: Path) -> None:
    state = clip_state()
    path = tmp_path / "open_clip_model.safetensors"
    save_file(state, path)
    row = ("model=base", "recipe=release", "launch=a100x8")
    params = settings(path, *row, over=(FLAIR_ROW,))
    found = start(params, path)
    assert {name for name, what in verdicts(found).items() if what == "anew"} == {"pool", "temperatures.part"}
    network = CAFT(params.selected_model, 1).eval()
    network.load_state_dict(found.weights, strict=False)
    # CLIP's image feature by torch's own modules: pre-norm layers, exact GELU, norm and projection of the class token.
    pixels = torch.randint(256, (1, 3, 224, 224), dtype=torch.uint8)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    with torch.no_grad():
        patches = torch.nn.functional.conv2d((pixels / 255 - mean) / std, state["visual.conv1.weight"], stride=16)
        x = torch.cat([state["visual.class_embedding"].expand(1, 1, -1), patches.flatten(2).transpose(1, 2)], 1)
        x = torch.nn.functional.layer_norm(
            x + state["visual.positional_embedding"], (768,), state["visual.ln_pre.weight"], state["visual.ln_pre.bias"]
        )
        back = {"attn": "self_attn", "mlp.c_fc": "linear1", "mlp.c_proj": "linear2", "ln_1": "norm1", "ln_2": "norm2"}
        for number in range(12):
            layer = torch.nn.TransformerEncoderLayer(
                768, 12, 3072, activation="gelu", batch_first=True, norm_first=True
            ).eval()
            prefix = f"visual.transformer.resblocks.{number}."
            own = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
            names = {n: next(n.replace(a, b, 1) for a, b in back.items() if n.startswith(a)) for n in own}
            layer.load_state_dict({names[n]: t for n, t in own.items()})
            x = layer(x)
        cls = torch.nn.functional.layer_norm(
            x[:, 0], (768,), state["visual.ln_post.weight"], state["visual.ln_post.bias"]
        )
        expected = torch.nn.functional.normalize(cls @ state["visual.proj"], dim=-1)
    torch.testing.assert_close(network.image_features(pixels).whole, expected, atol=2e-5, rtol=1e-4)
    text = refusal(settings(path, *row))
    assert "it fits models.base under pipelines/ablation/flair.yaml" in text
    (short := dict(state)).pop("visual.transformer.resblocks.11.ln_1.weight")
    save_file(short, path)
    assert "read as open_clip's ViT-B-16" in refusal(params)


# ---- what is refused


def test_other_widths_are_refused_with_the_model_that_fits(ours: Path) -> None:
    text = refusal(settings(ours, "model=base"))
    assert text.startswith(f"init = {ours}: does not fit models.base:\n  heads: 4 in the file's model, 12 here\n")
    assert text.endswith("\n  it fits model: tiny")


def test_heads_that_no_shape_tells_are_refused(ours: Path) -> None:
    assert "text.heads: 4 in the file's model, 2 here" in refusal(settings(ours, "models.tiny.text.heads=2"))


def test_another_number_of_chunks_or_layers_is_refused(ours: Path) -> None:
    chunks = refusal(settings(ours, "recipes.paper.chunks=3"))
    assert "text.whole_caption: made for 4 chunks of a caption, the recipe's chunks are 3" in chunks
    assert chunks.endswith("it fits model: tiny and recipes.smoke.chunks: 4")
    deeper = refusal(settings(ours, "models.tiny.blocks=[1, 2, 1, 1]"))
    assert "vision.stages.2: 12 tensors are not in the file, 0 not in the model, as vision.stages.1.1.norm1" in deeper
    assert deeper.endswith("no entry of models fits; add one with the sizes in the file's card")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("hf:byeongju-woo", "is no name of a model on a hub; expected hf:OWNER/NAME"),
        ("/nowhere/caft.safetensors", "/nowhere/caft.json: not found"),
        ("/nowhere/caft.pt", "not found; give the path of the downloaded file"),
    ],
)
def test_what_is_no_file_is_refused(given: str, words: str) -> None:
    assert words in refusal(settings(given))


def test_the_superpixel_network_alone_is_no_start_but_a_model_gives_its_own(
    ours: Path, network: CAFT, tmp_path: Path
) -> None:
    path = tmp_path / "sfcn.safetensors"
    save_model(network.superpixels, path, {"superpixels": {}, "checkpoint": None})
    assert "is the superpixel network SFCN alone" in refusal(settings(path))
    found = sfcn_from_checkpoint(ours, TINY.superpixels.widths)
    for name, tensor in network.superpixels.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor)


@pytest.mark.parametrize("given", ["models/caft.safetensors", "./models/caft.safetensors"])
def test_what_train_writes_cannot_be_its_start(given: str) -> None:
    with pytest.raises(CaftError, match=r"init = .*: train itself writes this file, and DVC removes it before"):
        settings(given)


# ---- in a run


def test_the_weights_lie_sealed_in_the_runs_folder_and_another_superpixel_network_is_told(
    ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    found = start(settings(ours), ours)
    with caplog.at_level(logging.INFO):
        path = launch.keep_start(tmp_path, found)
        written = path.read_bytes()
        assert "init: pool" in caplog.text and "superpixel network is taken" not in caplog.text
        path.write_bytes(b"cut off")
        save_model(CAFT(TINY, 4).superpixels, tmp_path / "models/sfcn.safetensors", {})
        assert launch.keep_start(tmp_path, found) == path and path.read_bytes() == written
    assert "superpixel network is taken" in caplog.text and "set superpixels.checkpoint to the same file" in caplog.text


def test_dvc_sees_the_content_of_the_file_not_its_place(
    ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAFT_STORAGE", str(tmp_path / "storage"))
    look(PARAMS, tmp_path / "seen")
    seen = tmp_path / "seen/init.json"
    assert '"random": true' in seen.read_text()
    look(settings(ours), tmp_path / "seen")
    first = seen.read_text()
    (moved := tmp_path / "caft.safetensors").write_bytes(ours.read_bytes())
    look(settings(moved), tmp_path / "seen")
    assert seen.read_text() == first and "sha256" in first
    moved.write_bytes(ours.read_bytes()[:-1] + b"\1")
    look(settings(moved), tmp_path / "seen")
    assert seen.read_text() != first
