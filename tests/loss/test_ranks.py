"""Losses over several gloo ranks against one process."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from caft.grounding import TextConditionedPool
from caft.loss.hierarchical import Features, Temperature, hierarchical_loss
from caft.loss.labels import sampled_index

IMAGES, SUB_CAPTIONS, DIM, SEED, STEP = 3, 2, 8, 5, 11
WEIGHTS = {"part": 1.0, "part_cls": 1.0, "whole": 1.0}


class Tower(torch.nn.Module):
    """Something to train in front of the losses."""

    def __init__(self) -> None:
        super().__init__()
        self.image = torch.nn.Linear(DIM, DIM)
        self.text = torch.nn.Linear(DIM, DIM)
        self.pool = TextConditionedPool(DIM, 2)
        self.scale = torch.nn.Parameter(torch.tensor(1.0))
        self.bias = torch.nn.Parameter(torch.tensor(-1.0))

    def forward(self, inputs: dict[str, torch.Tensor], negatives: str) -> torch.Tensor:
        features = Features(
            self.image(inputs["part"]),
            self.image(inputs["cls"]),
            self.image(inputs["whole"]),
            self.text(inputs["texts"]),
            self.text(inputs["captions"]),
        )
        temperature = Temperature(self.scale.exp(), self.bias)
        terms = hierarchical_loss(
            features, self.pool, temperature, temperature, weights=WEIGHTS, negatives=negatives, seed=SEED, step=STEP
        )
        return terms["loss"] if negatives == "all" else terms["part"] + 0 * terms["loss"]


def make(world_size: int) -> tuple[Tower, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    images = IMAGES * world_size
    inputs = {
        "part": torch.randn(images, 4, DIM),
        "cls": torch.randn(images, DIM),
        "whole": torch.randn(images, DIM),
        "texts": torch.randn(images * SUB_CAPTIONS, DIM),
        "captions": torch.randn(images, DIM),
    }
    return Tower().double(), {name: value.double() for name, value in inputs.items()}


def share(inputs: dict[str, torch.Tensor], rank: int, world_size: int) -> dict[str, torch.Tensor]:
    return {name: value.chunk(world_size)[rank] for name, value in inputs.items()}


def run_rank(rank: int, world_size: int, negatives: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size)
    tower, inputs = make(world_size)
    wrapped = DistributedDataParallel(tower)  # its hooks are gone with it, so it must outlive the backward pass
    loss = wrapped(share(inputs, rank, world_size), negatives)
    loss.backward()
    mean = loss.detach().clone()
    dist.all_reduce(mean)
    gradients = {name: parameter.grad for name, parameter in tower.named_parameters()}
    torch.save({"loss": mean / world_size, "gradients": gradients}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("world_size", [2, 3])
def test_all_pairs_over_ranks_equal_one_process_on_the_whole_batch(world_size: int, tmp_path: Path) -> None:
    mp.spawn(run_rank, (world_size, "all", str(tmp_path)), nprocs=world_size)
    tower, inputs = make(world_size)
    expected = tower(inputs, "all")
    expected.backward()
    for rank in range(world_size):
        found = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(found["loss"], expected.detach(), atol=1e-10, rtol=1e-10)
        for name, parameter in tower.named_parameters():
            close = torch.allclose(found["gradients"][name], parameter.grad, atol=1e-10, rtol=1e-8)
            assert close, f"{name}: {found['gradients'][name]} instead of {parameter.grad}"


def test_sampled_negatives_over_ranks_equal_a_loop_over_pairs(tmp_path: Path) -> None:
    path = Path(__file__).parent.parent / "reference" / "losses.py"
    spec = importlib.util.spec_from_file_location("reference_losses", path)
    assert spec is not None and spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    sys.modules["reference_losses"] = reference
    spec.loader.exec_module(reference)

    world_size = 2
    mp.spawn(run_rank, (world_size, "sampled", str(tmp_path)), nprocs=world_size)
    tower, inputs = make(world_size)
    parts = [share(inputs, rank, world_size) for rank in range(world_size)]
    with torch.no_grad():
        expected = reference.sampled_part_loss(
            [tower.image(part["part"]) for part in parts],
            [tower.text(part["texts"]) for part in parts],
            [
                sampled_index(
                    IMAGES, SUB_CAPTIONS, torch.Generator().manual_seed((SEED * 1_000_003 + STEP) * 4099 + rank)
                )
                for rank in range(world_size)
            ],
            tower.pool,
            float(tower.scale.exp()),
            float(tower.bias),
            SUB_CAPTIONS,
        )
    found = torch.load(tmp_path / "0.pt")
    assert float(found["loss"]) == pytest.approx(expected, rel=1e-10)
