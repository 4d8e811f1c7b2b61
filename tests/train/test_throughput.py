"""Counts by formula against the modules themselves, torch's own counter, and published figures."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.counts import main
from caft import CAFT
from caft.params import ModelParams, load_params
from caft.train.cost import Count, counts, sample_count

PROJECT = Path(__file__).parents[2]
MODELS = load_params(PROJECT / "params.yaml").models
PUBLISHED = {  # GFLOP of CAST-B's parts at 224 and of SFCN, counted by running the originals
    "vision.stem": 7.23,
    "vision.stages.0": 8.72,
    "vision.stages.1": 2.80,
    "vision.stages.2": 1.41,
    "vision.stages.3": 0.48,
    "vision.pools.0": 2.38,
    "vision.pools.1": 0.79,
    "vision.pools.2": 0.39,
    "superpixels": 4.46,
}


def on_meta(name: str) -> CAFT:
    """A model without numbers: shapes are enough here."""
    with torch.device("meta"):
        return CAFT(MODELS[name]).eval()


def by_name(parts: list[Count]) -> dict[str, Count]:
    return {part.name: part for part in parts}


def assert_counted(sizes: ModelParams) -> None:
    """Every weight of the model belongs to one part, and each part has its number of them."""
    with torch.device("meta"):
        model = CAFT(sizes)
    left = {key: tensor.numel() for key, tensor in model.named_parameters()}
    left["vision.positions"] = model.vision.positions.numel()
    for part in counts(sizes, chunks=4):
        own = [key for key in left if key == part.name or key.startswith(part.name + ".")]
        assert sum(left.pop(key) for key in own) == part.parameters + part.fixed, part.name
    assert not left


@pytest.mark.parametrize("name", ["tiny", "base"])
def test_parameters_are_those_of_the_model(name: str) -> None:
    assert_counted(MODELS[name])


@pytest.mark.parametrize("row", ["flair", "visual_hierarchy", "textual_hierarchy", "no_part", "siglip"])
def test_parameters_of_the_ablations_are_those_of_their_models(row: str) -> None:
    assert_counted(load_params(PROJECT / "params.yaml", [PROJECT / f"pipelines/ablation/{row}.yaml"]).models["base"])


def test_base_has_the_published_sizes() -> None:
    parts = counts(MODELS["base"], chunks=4)
    vision = [part for part in parts if part.name.startswith("vision.")]
    with_positions = sum(part.parameters + part.fixed for part in vision)
    assert round(with_positions / 1e6, 1) == 103.9
    assert round(sum(part.parameters for part in vision) / 1e6, 1) == 103.3
    assert by_name(parts)["vision.positions"].fixed == 784 * 768
    assert by_name(parts)["superpixels"].parameters == 2_269_785
    for name, giga in PUBLISHED.items():
        assert by_name(parts)[name].flops / 1e9 == pytest.approx(giga, abs=0.005), name
    tower = sum(part.flops for part in vision if not part.name.endswith(".sampling"))
    assert tower / 1e9 == pytest.approx(24.2, abs=0.05)


def test_operations_are_those_that_torch_counts_on_a_forward_pass() -> None:
    sizes, model = MODELS["tiny"], CAFT(MODELS["tiny"]).eval()
    chunks, sub_captions = 4, 5
    tokens = torch.zeros(1, sub_captions, 77, dtype=torch.long)
    tokens[..., -1] = 49407  # every text has the full length,
    tokens[..., 1] = torch.arange(sub_captions)  # and none is there twice, since those are encoded once
    pixels = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
    # The CPU's fused attention is unknown to the counter; the plain products are what it would count.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        labels = model.superpixel_labels(pixels)
        hierarchy = model.vision(pixels.float(), labels)
        part = model.project_part(hierarchy.stages[sizes.part_stage - 1])
        model.project_whole(hierarchy.cls)
        texts = model.sub_caption(tokens[0])
        queries = model.sub_caption_projection(texts)
        model.whole_caption_projection(model.whole_caption(texts[None, :chunks]))
        model.pool(queries[None], part)
    found = counter.get_flop_counts()

    def counted(module: str) -> int:
        return sum(found.get(module, {}).values())

    parts = by_name(counts(sizes, chunks))
    for name in ("vision.stem", *(f"vision.stages.{n}" for n in range(4))):
        # torch names what it counts by class where no parent ran
        assert counted(name.replace("vision", "HierarchicalVisionEncoder")) == parts[name].flops, name
    assert counted("SFCN") == parts["superpixels"].flops
    for number in range(3):
        both = parts[f"vision.pools.{number}"].flops + parts[f"vision.pools.{number}.sampling"].flops
        assert counted(f"HierarchicalVisionEncoder.pools.{number}") == both
    assert counted("SubCaptionTransformer") == sub_captions * parts["sub_caption"].flops
    assert counted("WholeCaptionTransformer") == parts["whole_caption"].flops
    work = sample_count(sizes, chunks, sub_captions, asked=sub_captions)
    assert counter.get_total_flops() == work.superpixels + work.vision + work.text + work.pooling


def test_operations_of_base_are_those_that_torch_counts_module_by_module() -> None:
    sizes = MODELS["base"]
    parts = by_name(counts(sizes, chunks=4))
    model = on_meta("base")
    model.vision.pools.to_empty(device="cpu")  # the sampling needs a device that autocast knows

    def counted(module: torch.nn.Module, *shapes: tuple[int, ...]) -> int:
        device = next(module.parameters()).device
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            module(*(torch.zeros(shape, device=device) for shape in shapes))
        return counter.get_total_flops()

    assert counted(model.superpixels, (1, 3, 224, 224)) == parts["superpixels"].flops
    assert counted(model.vision.stem, (1, 3, 224, 224)) == parts["vision.stem"].flops
    for number, tokens in enumerate(sizes.tokens):
        assert counted(model.vision.stages[number], (1, 1 + tokens, 768)) == parts[f"vision.stages.{number}"].flops
    for number, tokens in enumerate(sizes.tokens[:-1]):
        both = parts[f"vision.pools.{number}"].flops + parts[f"vision.pools.{number}.sampling"].flops
        assert counted(model.vision.pools[number], (1, 1, 768), (1, tokens, 768)) == both
    assert counted(model.sub_caption.blocks, (1, 77, 512)) == parts["sub_caption"].flops
    assert counted(model.whole_caption, (1, 4, 512)) == parts["whole_caption"].flops


def test_a_training_sample_costs_what_the_sums_say() -> None:
    base = MODELS["base"]
    work = sample_count(base, chunks=4, sub_captions=8, asked=8 * (256 + 7))
    assert work.text / 1e9 == pytest.approx(31.9, abs=0.1)  # between 24.2 (6 layers) and 35.9 (9) for 8 x 77 tokens
    assert work.trained_step == work.superpixels + 3 * (work.vision + work.text + work.pooling)
    short = sample_count(base, chunks=4, sub_captions=8, asked=8 * (256 + 7), text_length=25)
    assert short.text < 0.35 * work.text and short.vision == work.vision


def test_the_command_prints_the_table() -> None:
    command = [sys.executable, "-m", "benchmarks.counts", "--model", "base"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line}
    assert rows["vision.stem"] == ["4,079,712", "7.23", "image"]
    assert "103,331,424  602,112" in done.stdout


def test_the_command_refuses_an_unknown_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(PROJECT)
    monkeypatch.setattr(sys, "argv", ["counts", "--model", "bsae"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: --model bsae: no such key in models; did you mean base?\n"
