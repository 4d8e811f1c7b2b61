"""The model, the losses and the trainer on a GPU, against the CPU, golden arrays and themselves."""

from pathlib import Path

import pytest
import torch

from benchmarks.gpu_checks import all_checks
from caft import CAFT
from caft.train.task import TrainingTask
from tests.gpu import checks

pytestmark = pytest.mark.gpu
CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("case", checks.GOLDEN)
def test_golden_arrays(case: str) -> None:
    for name, error, allowed in checks.golden_differences(case, GPU):
        assert error <= allowed, name


def test_features_maps_and_scores_are_as_on_the_cpu() -> None:
    expected, found = checks.everything_asked(CPU), checks.everything_asked(GPU)
    for name, tensor in expected.items():
        if tensor.is_floating_point():
            error = float((found[name].cpu() - tensor).abs().max() / tensor.abs().max())
            assert error < 1e-2, name
        else:  # a pixel between two superpixels may fall to the other
            assert float((found[name].cpu() == tensor).float().mean()) > 0.999, name


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_losses_under_autocast_are_near_float32(half: torch.dtype) -> None:
    for name, difference in checks.half_precision_differences(GPU, half).items():
        assert difference < 0.02, name


def test_base_takes_a_step_in_bf16() -> None:
    recipe = checks.PARAMS.recipes["paper"]
    torch.manual_seed(0)
    model = CAFT(checks.PARAMS.models["base"], recipe.chunks, recipe.scale_start, recipe.bias_start)
    task = TrainingTask(model, recipe, seed=0).to(GPU).train()
    (batch,) = checks.random_batches(1)
    pixels = torch.randint(256, (8, 3, 224, 224), dtype=torch.uint8, device=GPU)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        terms = task(pixels, model.superpixel_labels(pixels), batch.tokens.to(GPU), 0)
    terms["loss"].backward()
    assert bool(terms["loss"].isfinite())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in task.parameters() if p.requires_grad)


@torch.no_grad()
def test_compiled_blocks_are_as_they_are_without() -> None:
    model = checks.task(checks.recipe(), GPU).model.eval()
    torch.manual_seed(1)
    for module, tokens in (
        (model.vision.stages[0], 65),
        (model.vision.stages[1], 33),
        (model.sub_caption.blocks, 77),
        (model.sub_caption.blocks, 24),
    ):
        inputs = torch.randn(4, tokens, 64, device=GPU)
        torch.testing.assert_close(torch.compile(module)(inputs), module(inputs), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name, _ in all_checks(checks.PARAMS, GPU)])
def test_check_of_the_benchmark(name: str) -> None:
    for what, check in dict(all_checks(checks.PARAMS, GPU))[name]().items():
        assert check.passed, f"{what}: {check.found:.1e} is more than {check.allowed:.1e}"


def test_two_ranks_over_nccl_equal_one_process(tmp_path: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip(f"needs two GPUs, found {torch.cuda.device_count()}")
    for name, difference in checks.rank_differences("cuda", 2, tmp_path).items():
        assert difference < 1e-4, name


@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_fifty_steps_on_random_data_lower_the_loss(precision: str, tmp_path: Path) -> None:
    start = checks.starting_loss(GPU)
    checks.train(tmp_path, GPU, 50, precision)
    losses = checks.losses(tmp_path)
    assert len(losses) == 5 and losses[-1] < losses[0] < 0.5 * start, (start, losses)


@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_a_killed_run_resumes_and_ends_alike(precision: str, tmp_path: Path) -> None:
    checks.train(tmp_path / "whole", GPU, 30, precision)
    checks.train(tmp_path / "killed", GPU, 30, precision, stop_after=25)
    checks.train(tmp_path / "killed", GPU, 30, precision)
    whole, killed = checks.losses(tmp_path / "whole"), checks.losses(tmp_path / "killed")
    assert len(killed) == len(whole) == 3
    assert killed == pytest.approx(whole, rel=0.02)  # a GPU's sums have no fixed order
