"""What fine-tuning adds to the training: frozen parts, rates that fall with depth, another schedule, and their refusals."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import finetune
from caft import CAFT
from caft.errors import ParamsError
from caft.params import Params, load_params
from caft.params.parts import height, named
from caft.train.cost import memory
from caft.train.distributed import World
from caft.train.optim import learning_rate
from caft.train.trainer import Trainer
from tests.gpu import checks
from tests.ranks import run_ranks
from tests.train.test_averaged import through

PROJECT = Path(__file__).parents[2]
CPU = torch.device("cpu")
SETS = (("vision.stem", "text.sub_caption"), ("vision", "pool"), ("text", "temperatures", "vision.pools"))


def settings(*values: str, over: tuple[str, ...] = ()) -> Params:
    return load_params(PROJECT / "params.yaml", [PROJECT / name for name in over], list(values))


def trainer(folder: Path, world: World, **changes: Any) -> Trainer:
    recipe = checks.recipe(batch=4, checkpoint_every=2, **changes)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    return Trainer(checks.task(recipe, world.device), recipe, world, folder, "frozen", 4, seed=0)


# ---- frozen parts


def on_ranks(rank: int, size: int, folder: Path) -> None:
    """DDP waits for gradients of all that it holds, so what is frozen must not be among it."""
    for number, frozen in enumerate(SETS):
        made = trainer(folder / str(number), World(rank, size, CPU), freeze=frozen)
        before = {name: tensor.clone() for name, tensor in made.task.model.state_dict().items()}
        after = through(made, until=2).task.model.state_dict()
        kept = {name for name, tensor in after.items() if torch.equal(tensor, before[name])}
        torch.save(kept, folder / f"{number}-{rank}.pt")


@pytest.mark.slow
def test_on_two_ranks_frozen_parts_keep_their_bits_and_the_rest_is_trained(tmp_path: Path) -> None:
    run_ranks(on_ranks, tmp_path, 2)
    sizes = checks.PARAMS.models["tiny"]
    names = CAFT(sizes, 4).state_dict()
    for number, frozen in enumerate(SETS):
        parts = [part for name in ("superpixels", *frozen) for part in named(name, sizes)]
        expected = {name for name in names if any(part.holds(name) for part in parts)}
        for rank in (0, 1):
            kept = torch.load(tmp_path / f"{number}-{rank}.pt", weights_only=True)
            # Batch norm's statistics are among those that stay. A bias that centring removes has no gradient but noise.
            assert expected <= kept, sorted(expected - kept)
            assert kept <= expected, sorted(kept - expected)


def test_a_frozen_batch_norm_uses_its_statistics_and_others_the_batchs(tmp_path: Path) -> None:
    norms = {}
    for frozen in ((), ("vision.stem",)):
        task = trainer(tmp_path / str(len(frozen)), World(0, 1, CPU), freeze=frozen).task.train()
        norms[frozen] = [m.training for m in task.model.vision.stem.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms == {(): [True] * 3, ("vision.stem",): [False] * 3}


def test_a_frozen_temperature_is_not_clamped_either(tmp_path: Path) -> None:
    made = trainer(tmp_path, World(0, 1, CPU), freeze=("temperatures.whole",))
    for log_scale, _ in made.task.model.temperatures.values():
        torch.nn.init.constant_(log_scale, 9.0)
    made.task.clamp_scales()
    scales = {level: float(log_scale.detach()) for level, (log_scale, _) in made.task.model.temperatures.items()}
    assert scales["whole"] == 9.0 and scales["part"] < 5


def test_the_estimate_of_memory_leaves_out_gradients_and_moments_of_what_is_frozen() -> None:
    params = settings()
    model, recipe = params.selected_model, params.selected_recipe
    vision = recipe.model_copy(update={"freeze": ("vision",)})
    frozen = [part for part in named("vision", model)]
    count = sum(t.numel() for n, t in CAFT(model, 4).named_parameters() if any(part.holds(n) for part in frozen))
    assert count > 100_000
    assert memory(model, recipe, 4, 1, 4, 77).state - memory(model, vision, 4, 1, 4, 77).state == 4 * 3 * count
    assert memory(model, recipe, 4, 2, 4, 77).state - memory(model, vision, 4, 2, 4, 77).state == 4 * 4 * count


# ---- rates by depth


def test_heights_of_a_hierarchy_by_hand() -> None:
    sizes = settings(
        "model=base", "recipe=release", "launch=a100x8"
    ).selected_model  # 3, 3, 3, 2 blocks; 8 + 4 of texts
    expected = {
        "vision.stem.layers.0.weight": 12, "vision.cls": 12, "vision.stages.0.0.norm1.weight": 11,
        "vision.stages.0.2.mlp.fc1.bias": 9, "vision.pools.0.bias": 8, "vision.stages.1.0.norm1.bias": 8,
        "vision.pools.2.attn.qkv.weight": 2, "vision.stages.3.0.attn.qkv.weight": 2, "vision.stages.3.1.norm2.bias": 1,
        "whole_norm.weight": 0, "part_projection.weight": 0, "pool.query.weight": 0, "part_log_scale": 0,
        "sub_caption.embedding.weight": 13, "sub_caption.positions": 13, "sub_caption.blocks.0.norm1.bias": 12,
        "sub_caption.blocks.7.norm1.bias": 5, "sub_caption.norm.weight": 5, "whole_caption.gamma": 4,
        "whole_caption.positions": 4, "whole_caption.blocks.0.norm1.bias": 4, "whole_caption.blocks.3.norm1.bias": 1,
        "whole_caption.norm.bias": 0, "sub_caption_projection.weight": 0, "whole_caption_projection.weight": 0,
    }  # fmt: skip
    with torch.device("meta"):
        assert expected.keys() <= CAFT(sizes, 4).state_dict().keys()
    assert {name: height(name, sizes) for name in expected} == expected


def test_heights_of_a_flat_vit_are_beits() -> None:
    """As `get_num_layer_for_vit` of BEiT and its `scale = decay ** (num_layers + 1 - layer)`, over a ViT of that depth."""
    sizes = settings(over=("pipelines/ablation/flair.yaml",)).selected_model
    depth = sizes.blocks[0]
    with torch.device("meta"):
        names = [name for name in CAFT(sizes, 1).state_dict() if name.startswith(("vision.", "part_norm"))]
    for name in names:
        if name.startswith("vision.blocks"):
            layer = int(name.split(".")[2]) + 1
        else:
            layer = depth + 1 if name.startswith("part_norm") else 0
        assert height(name, sizes) == depth + 1 - layer, name


def test_a_step_moves_lower_layers_less(tmp_path: Path) -> None:
    made = trainer(tmp_path, World(0, 1, CPU), layer_decay=0.5, weight_decay=0.25)
    before = {name: p.detach().clone() for name, p in made.task.model.named_parameters()}
    through(made, until=1)
    rate = 1e-3 / 5  # of the first of five steps of warm-up
    for name, scale in {
        "vision.stem.layers.0.weight": 2**-5,
        "vision.stages.3.0.mlp.fc1.weight": 0.5,
        "pool.out.weight": 1,
    }.items():
        weight, start = made.task.model.get_parameter(name), before[name]
        # The first step of AdamW is as long as its rate wherever there is a gradient, beside the decay of the weight.
        length = (weight - start * (1 - rate * scale * 0.25)).abs().max()
        assert float(length) == pytest.approx(rate * scale, rel=1e-2), name
    groups = made.optimizer.param_groups
    assert sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in made.task.parameters())
    assert {group["lr_scale"] for group in groups} == {0.5**n for n in range(6)}


# ---- the schedule


def test_a_constant_rate_and_its_cooldown_by_hand() -> None:
    rates = [learning_rate(step, 8.0, 2, 10, "constant", 0.4) for step in range(10)]
    assert rates == [4.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 6.0, 4.0, 2.0]
    assert {learning_rate(step, 8.0, 0, 10, "constant") for step in range(10)} == {8.0}


# ---- what is refused


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("train.freeze=[vision.stm]", "train.freeze = vision.stm: parts of models.tiny are vision.stem, vision.stages.1, "),
        ("train.freeze=[superpixels]", "train.freeze = superpixels: is never trained; parts of models.tiny are vision.stem"),
        ("recipes.smoke.freeze=[text.sub]", "recipes.smoke.freeze = text.sub: parts of models.tiny are"),
        ("train.freeze=[vision, text, pool, temperatures]", "leaves nothing to train"),
        ("train.freeze=vision", "train.freeze = vision: input should be a valid tuple"),
        ("train.cooldown=0.2", "train.cooldown = 0.2: must be 0 where schedule is cosine, which falls by itself"),
        ("train.schedule=linear", "input should be 'cosine' or 'constant'"),
        ("train.layer_decay=1.5", "train.layer_decay = 1.5: input should be less than 1"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(value: str, words: str) -> None:
    with pytest.raises(ParamsError) as raised:
        settings(value)
    assert words in str(raised.value)


def test_the_recipe_takes_its_settings_and_overrides_reach_it() -> None:
    recipe = settings(
        "recipe=finetune", "train.freeze=[vision.stem]", "train.schedule=constant", "train.cooldown=0.25"
    ).selected_recipe
    assert (recipe.layer_decay, recipe.freeze, recipe.schedule, recipe.cooldown) == (
        0.8,
        ("vision.stem",),
        "constant",
        0.25,
    )
    assert settings("recipe=finetune").selected_recipe.steps(200) == 41


def test_training_anew_takes_the_rate_of_the_default_run() -> None:
    """In the benchmark of docs/finetune.md, which compares with it."""
    anew, default = settings("recipe=finetune", *finetune.anew_values()), settings()
    assert anew.init is None and anew.selected_recipe.layer_decay is None
    assert anew.selected_recipe.learning_rate == default.selected_recipe.learning_rate
