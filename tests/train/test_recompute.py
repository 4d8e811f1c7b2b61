"""Activations that the backward pass computes again: the same bits, and memory counted in what autograd keeps."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from caft import CAFT
from caft.errors import ParamsError
from caft.network.layers import Stage, TransformerBlock
from caft.params import load_params
from caft.params.models import ModelParams
from caft.params.recipes import RecipeParams
from caft.train.cost import memory
from caft.train.task import TrainingTask
from tests.train.test_micro_batch import batch

PARAMS = Path(__file__).parents[2] / "params.yaml"
RECIPE = load_params(PARAMS).recipes["release"]
TINY = load_params(PARAMS).models["tiny"]
FLAIR = load_params(PARAMS, [str(PARAMS.parent / "pipelines/ablation/flair.yaml")])
SMALL = {"vocabulary": 64, "width": 16, "heads": 2}


def sizes(model: ModelParams, **more: object) -> ModelParams:
    return model.model_copy(update={"text": model.text.model_copy(update=SMALL), **more})


def step(
    model: ModelParams,
    recomputed: Sequence[int],
    micro_batch: int | None = None,
    recipe: RecipeParams = RECIPE,
) -> dict[str, Tensor]:
    """Loss, gradients and buffers of a step with dropout, and the bytes that autograd has kept when the loss is there."""
    torch.manual_seed(0)
    network = CAFT(model, recipe.chunks, recipe.scale_start, recipe.bias_start)
    task = TrainingTask(network, recipe, 0, micro_batch, recomputed).train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in task.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = task(*batch(0), 5)["loss"]
    loss.backward()
    gradients = {name: p.grad for name, p in task.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), "kept": torch.tensor(sum(kept.values())), **gradients, **dict(task.named_buffers())}


@pytest.mark.parametrize("micro_batch", [None, 4])
@pytest.mark.parametrize("stages", [(1,), (2, 4), (1, 2, 3, 4)])
def test_a_step_is_the_same_to_the_bit(stages: tuple[int, ...], micro_batch: int | None) -> None:
    plain, again = (step(sizes(TINY), which, micro_batch=micro_batch) for which in ((), stages))
    del plain["kept"], again["kept"]
    assert plain.keys() == again.keys() and len(plain) > 50
    assert [name for name in plain if not torch.equal(plain[name], again[name])] == []


def test_the_flat_tower_is_one_stage() -> None:
    model, recipe = sizes(FLAIR.selected_model), FLAIR.selected_recipe
    plain, again = (step(model, which, recipe=recipe) for which in ((), (1,)))
    assert again.pop("kept") < plain.pop("kept")
    assert [name for name in plain if not torch.equal(plain[name], again[name])] == []


def test_what_is_kept_is_less_by_what_the_plan_says() -> None:
    """Of all stages again, inputs are kept, then the first is the largest that is there; of the last again, most is kept."""
    model = sizes(TINY, width=128, blocks=(3, 3, 3, 2))
    plain, again = (int(step(model, which)["kept"]) for which in ((), (1, 2, 3, 4)))

    def planned(blocks: tuple[int, ...], *recomputed: int) -> int:
        """Bytes without those of the stem."""
        of_blocks, of_stem = (model.model_copy(update={"blocks": which}) for which in (blocks, (0, 0, 0, 0)))
        return (
            memory(of_blocks, RECIPE, 8, 1, 4, 77, recomputed=recomputed).images
            - memory(of_stem, RECIPE, 8, 1, 4, 77).images
        )

    inputs = 4 * 8 * (65 + 33 + 17 + 9) * 128
    assert plain - again == pytest.approx(planned((3, 3, 3, 2)) - inputs, rel=0.1)
    assert again < 0.7 * plain
    assert planned((3, 3, 3, 2), 1, 2, 3, 4) == planned((3, 0, 0, 0))
    assert planned((3, 3, 3, 2), 4) == planned((3, 3, 3, 2))


@pytest.mark.slow
def test_a_compiled_stage_is_computed_again_too() -> None:
    """Under the compiler what is kept is its own matter; gradients are those of the stage to rounding."""
    torch.manual_seed(0)
    stage = Stage(TransformerBlock(16, 2, 2))
    tokens = torch.randn(2, 5, 16)
    found = []
    for recomputed in (False, True):
        stage.recomputed = recomputed
        if recomputed:
            stage.compile(dynamic=False)
        stage.zero_grad()
        stage(tokens.requires_grad_()).square().sum().backward()
        found.append([p.grad.clone() for p in stage.parameters() if p.grad is not None])
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("stages", ["[5]", "[2, 2]", "[0]"])
def test_stages_that_are_not_there_are_refused(stages: str) -> None:
    with pytest.raises(ParamsError, match="recompute_stages"):
        load_params(PARAMS, [], [f"launchers.local.recompute_stages={stages}"])
