"""Parameters and operations against formulas, a real forward pass, and published figures."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.costs import Part, model_parts, superpixel_flops
from benchmarks.counts import main
from caft import CAFT
from caft.params import load_params
from caft.train.cost import model_of_shapes, sample_cost
from tests.reference.costs import counts

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


def by_name(parts: list[Part]) -> dict[str, Part]:
    return {part.name: part for part in parts}


@pytest.mark.parametrize("row", ["tiny", "base", "flair", "visual_hierarchy", "textual_hierarchy", "no_part", "siglip"])
def test_every_part_has_the_parameters_and_operations_of_the_formulas(row: str) -> None:
    overlays = [] if row in MODELS else [PROJECT / f"pipelines/ablation/{row}.yaml"]
    sizes = load_params(PROJECT / "params.yaml", overlays).models[row if row in MODELS else "base"]
    parts = by_name(model_parts(sizes, chunks=4))
    assert parts == by_name(counts(sizes, chunks=4))
    model = model_of_shapes(sizes, chunks=4)
    assert sum(part.parameters for part in parts.values()) == sum(p.numel() for p in model.parameters())


def test_a_model_of_shapes_holds_no_numbers() -> None:
    assert {tensor.device.type for tensor in model_of_shapes(MODELS["base"], 4).state_dict().values()} == {"meta"}


def test_a_longer_context_costs_what_its_formula_says() -> None:
    """Text of 40 tokens in `tiny`: of each block four products of W x W, an MLP of 4 W, and two of L x L."""
    long = sample_cost(MODELS["tiny"], 4, 1, 0).text - sample_cost(MODELS["tiny"], 4, 1, 0, text_length=40).text
    text = MODELS["tiny"].text
    by_hand = [length * (8 + 16) * text.width**2 + 4 * length**2 * text.width for length in (text.context, 40)]
    assert long == text.sub_layers * (by_hand[0] - by_hand[1])


def test_superpixels_of_other_widths_cost_what_the_formula_says() -> None:
    widths = (12, 24, 48, 96, 192)
    sizes = MODELS["base"].superpixels
    assert sizes is not None
    model = MODELS["base"].model_copy(
        update={"image_size": 160, "superpixels": sizes.model_copy(update={"widths": widths})}
    )
    assert superpixel_flops(widths, 160) == by_name(counts(model, 4))["superpixels"].flops


def test_base_has_the_published_sizes() -> None:
    parts = model_parts(MODELS["base"], chunks=4)
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


def test_a_sample_costs_what_torch_counts_on_a_real_forward_pass() -> None:
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
    work = sample_cost(sizes, chunks, sub_captions, asked=sub_captions)
    assert counter.get_total_flops() == work.superpixels + work.vision + work.text + work.pooling


def test_a_training_sample_costs_what_the_sums_say() -> None:
    base = MODELS["base"]
    work = sample_cost(base, chunks=4, sub_captions=8, asked=8 * (256 + 7))
    assert work.text / 1e9 == pytest.approx(31.9, abs=0.1)  # between 24.2 (6 layers) and 35.9 (9) for 8 x 77 tokens
    assert work.trained_step == work.superpixels + 3 * (work.vision + work.text + work.pooling)
    short = sample_cost(base, chunks=4, sub_captions=8, asked=8 * (256 + 7), text_length=25)
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
