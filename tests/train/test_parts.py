"""Parts of a network by name: each tensor is of one, in every structure that the ablations train."""

from pathlib import Path

import pytest
import torch

from caft import CAFT
from caft.params import load_params
from caft.params.parts import named, part_of, parts

PROJECT = Path(__file__).parents[2]
STRUCTURES = ("flair", "no_part", "siglip", "textual_hierarchy", "visual_hierarchy", "hierarchical_loss")


@pytest.mark.parametrize("structure", [None, *STRUCTURES])
@pytest.mark.parametrize("model", ["tiny", "base"])
def test_each_tensor_is_of_one_part_and_no_part_is_empty(structure: str | None, model: str) -> None:
    over = [PROJECT / f"pipelines/ablation/{structure}.yaml"] if structure else []
    params = load_params(PROJECT / "params.yaml", over, [f"model={model}"])
    sizes = params.selected_model
    with torch.device("meta"):
        names = list(CAFT(sizes, params.selected_recipe.chunks).state_dict())
    found = {part.name: [name for name in names if part.holds(name)] for part in parts(sizes)}
    assert all(found.values()), found
    assert sorted(name for some in found.values() for name in some) == sorted(names)
    assert all(part_of(name, sizes).name == part for part, some in found.items() for name in some)


def test_a_name_stands_for_all_below_it() -> None:
    sizes = load_params(PROJECT / "params.yaml").selected_model
    assert [part.name for part in named("text.sub_caption", sizes)] == [
        "text.sub_caption.embedding", "text.sub_caption.blocks"
    ]  # fmt: skip
    assert [part.name for part in named("vision.stages.2", sizes)] == ["vision.stages.2"]
    assert len(list(named("vision", sizes))) == 1 + 4 + 3 + 2
    assert not list(named("text.sub", sizes)) and not list(named("visio", sizes))
